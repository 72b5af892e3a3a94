#!/usr/bin/env bash
# Drives the server with clients that others wrote. Everything is installed into a folder that is gone afterwards, or into CLIENTS_HOME,
# which a next run uses again. Needs python3 (3.11 or later), node (20 or later), curl and Chromium (CHROMIUM, or /usr/bin/chromium).
#   tests/clients/run.sh target/release/s3t [FUZZ_EXAMPLES]
set -euo pipefail
program=$(realpath "$1") examples=${2:-5}
here=$(cd "$(dirname "$0")" && pwd)
if [ -n "${CLIENTS_HOME:-}" ]; then
    home=$(mkdir -p "$CLIENTS_HOME" && realpath "$CLIENTS_HOME")
else
    home=$(mktemp -d)
    trap 'chmod -R u+w "$home"; rm -rf "$home"' EXIT
fi
export TMPDIR="$home/tmp"
mkdir -p "$TMPDIR"
prepare() {
    if ! cmp -s "$here/requirements.txt" "$home/requirements.txt"; then
        python3 -m venv "$home/venv"
        "$home/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
        cp "$here/requirements.txt" "$home/"
    fi
    [ -x "$home/tlog/tlog" ] || "$here/tlog/build.sh" "$home/venv/bin/go" "$home/tlog"
}
prepare &
preparing=$!
# Node looks for packages beside the script. The page's test needs nothing else, so it runs meanwhile.
mkdir -p "$home/page"
cp "$here/package.json" "$here/page.mjs" "$home/page/"
(cd "$home/page" && npm install --silent --no-audit --no-fund --no-package-lock)
failed=0
CLIENTS_PAGE="$home/page/page.mjs" python3 "$here/page.py" "$program" ${SCREENSHOTS:+"$SCREENSHOTS"} || failed=1
wait "$preparing"
"$home/venv/bin/python" "$here/drive.py" "$program" "$home/tlog/tlog" "$examples" || failed=1
"$home/venv/bin/python" "$here/texts.py" "$program" || failed=1
"$home/venv/bin/python" "$here/bad_clients.py" "$program" || failed=1
"$home/venv/bin/python" "$here/fuzz.py" "$program" 2000 || failed=1
"$home/venv/bin/python" "$here/fuzz.py" "$program" 1000 2 texts || failed=1
rm -rf "$TMPDIR"
exit $failed
