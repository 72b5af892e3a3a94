#!/usr/bin/env bash
# Builds the client into a folder. Go's own sources have the packages of the checksum database, so nothing is fetched.
#   build.sh GO FOLDER
set -euo pipefail
go=$1 folder=$2
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder/mod"
cp -r "$("$go" env GOROOT)/src/cmd/vendor/golang.org/x/mod/sumdb" "$folder/mod/"
printf 'module golang.org/x/mod\n\ngo 1.25.0\n' >"$folder/mod/go.mod"
cp "$here/main.go" "$folder/"
cat >"$folder/go.mod" <<'MOD'
module s3t.example/tlog

go 1.25.0

require golang.org/x/mod v0.0.0

replace golang.org/x/mod => ./mod
MOD
cd "$folder"
GOTOOLCHAIN=local GOPROXY=off GOFLAGS=-mod=mod GOCACHE="$folder/cache" GOPATH="$folder/path" "$go" build -o tlog .
