// Reads a ledger over HTTP with the client of Go's checksum database: the checkpoint's signature, the tree's hash from the tiles, every
// entry's hash, and that the tree of an earlier checkpoint is its beginning.
//
//	tlog URL [EARLIER_CHECKPOINT_FILE]
//
// The tiles of C2SP have the same content as those of the checksum database, under names without the height.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

type reader struct{ url string }

func get(url string) ([]byte, error) {
	answer, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != 200 {
		return nil, fmt.Errorf("%s: %s", url, answer.Status)
	}
	return io.ReadAll(answer.Body)
}

func (r reader) Height() int { return height }

func (r reader) path(tile tlog.Tile) string {
	path := strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", height))
	return r.url + "/ledger/tile/" + strings.Replace(path, "data/", "entries/", 1)
}

func (r reader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		bytes, err := get(r.path(tile))
		if err != nil {
			return nil, err
		}
		all = append(all, bytes)
	}
	return all, nil
}

func (r reader) SaveTiles([]tlog.Tile, [][]byte) {}

func tree(text []byte, verifier note.Verifier) tlog.Tree {
	signed, err := note.Open(text, note.VerifierList(verifier))
	check(err)
	var origin string
	var tree tlog.Tree
	lines := strings.Split(signed.Text, "\n")
	origin = lines[0]
	if origin != verifier.Name() {
		log.Fatalf("the origin is %q, and the key is of %q", origin, verifier.Name())
	}
	_, err = fmt.Sscan(lines[1], &tree.N)
	check(err)
	tree.Hash, err = tlog.ParseHash(lines[2])
	check(err)
	return tree
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	log.SetFlags(0)
	url := os.Args[1]
	key, err := get(url + "/ledger/key.pub")
	check(err)
	verifier, err := note.NewVerifier(strings.TrimSpace(string(key)))
	check(err)
	checkpoint, err := get(url + "/ledger/checkpoint")
	check(err)
	newest := tree(checkpoint, verifier)
	// Each tile that is read is checked against the tree's hash.
	hashes := tlog.TileHashReader(newest, reader{url})
	for index := int64(0); index < newest.N; index++ {
		proof, err := tlog.ProveRecord(newest.N, index, hashes)
		check(err)
		hash, err := hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
		check(err)
		check(tlog.CheckRecord(proof, newest.N, newest.Hash, index, hash[0]))
	}
	read := int64(0)
	for first := int64(0); first < newest.N; first += 1 << height {
		width := min(newest.N-first, 1<<height)
		tile := tlog.Tile{H: height, L: -1, N: first >> height, W: int(width)}
		bundle, err := get(reader{url}.path(tile))
		check(err)
		for index := first; index < first+width; index++ {
			length := int(binary.BigEndian.Uint16(bundle))
			entry := bundle[2 : 2+length]
			bundle = bundle[2+length:]
			hash, err := hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
			check(err)
			if tlog.RecordHash(entry) != hash[0] {
				log.Fatalf("entry %d has another hash", index)
			}
			read++
		}
		if len(bundle) != 0 {
			log.Fatalf("bundle %d has %d bytes more", tile.N, len(bundle))
		}
	}
	if len(os.Args) > 2 {
		text, err := os.ReadFile(os.Args[2])
		check(err)
		earlier := tree(text, verifier)
		proof, err := tlog.ProveTree(newest.N, earlier.N, hashes)
		check(err)
		check(tlog.CheckTree(proof, newest.N, newest.Hash, earlier.N, earlier.Hash))
		fmt.Printf("the tree of %d entries continues that of %d\n", newest.N, earlier.N)
	}
	fmt.Printf("%d entries, each in the signed tree\n", read)
}
