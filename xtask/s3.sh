#!/usr/bin/env bash
# An S3 server of its own on this machine, for tests: moto, which keeps everything in memory.
#
#   xtask/s3.sh install                  installs it in `target/s3` where pip can; exit code 3 where it cannot
#   xtask/s3.sh start FOLDER [PORT]      starts it with the bucket `s3t`; its address is in FOLDER/address
#   xtask/s3.sh versions FOLDER          has the bucket keep the versions of its objects
#   xtask/s3.sh objects FOLDER           prints the names of the bucket's objects
#   xtask/s3.sh stop FOLDER              ends it
#
# Takes it from the virtual environment S3T_S3, or from `target/s3`. Exit code 3: not installed.
set -euo pipefail
command=${1:?install, start, versions, objects or stop}
own=$(cd "$(dirname "$0")/.." && pwd)/target/s3
environment=${S3T_S3:-$own}
if [ "$command" = install ]; then
    [ -x "$environment/bin/moto_server" ] && exit 0
    if python3 -m venv "$own" 2> /dev/null && "$own/bin/pip" install -q 'moto[s3,server]>=5,<6' > /dev/null 2>&1; then exit 0; fi
    rm -rf "$own"
    echo "s3.sh: no S3 server is installed, and none can be" >&2
    exit 3
fi
folder=$(realpath -m "${2:?a folder}")
server=$environment/bin/moto_server
[ -x "$server" ] || { echo "s3.sh: no S3 server is installed" >&2; exit 3; }
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY all_proxy ALL_PROXY
export AWS_ACCESS_KEY_ID=tests AWS_SECRET_ACCESS_KEY=tests AWS_DEFAULT_REGION=us-east-1 MOTO_ALLOW_NONEXISTENT_REGION=true

# Runs Python with `s3`, a client of the server.
client() {
    "$environment/bin/python" - "$(cat "$folder/address")" << END
import sys, boto3
s3 = boto3.client("s3", endpoint_url=sys.argv[1])
$1
END
}

case $command in
start)
    port=${3:-29000}
    mkdir -p "$folder"
    setsid "$server" -H 127.0.0.1 -p "$port" < /dev/null > "$folder/server.out" 2>&1 &
    echo $! > "$folder/server.pid"
    echo "http://127.0.0.1:$port" > "$folder/address"
    for _ in $(seq 240); do
        client 's3.create_bucket(Bucket="s3t")' 2> "$folder/client.out" && exit 0
        kill -0 "$(cat "$folder/server.pid")" 2> /dev/null || break
        sleep 0.5
    done
    echo "s3.sh: the server takes no bucket:" >&2
    tail -n 5 "$folder/server.out" "$folder/client.out" >&2
    exit 1
    ;;
versions)
    client 's3.put_bucket_versioning(Bucket="s3t", VersioningConfiguration={"Status": "Enabled"})'
    ;;
objects)
    client 'for object in s3.list_objects_v2(Bucket="s3t").get("Contents", []): print(object["Key"])'
    ;;
stop)
    kill "$(cat "$folder/server.pid" 2> /dev/null)" 2> /dev/null || true
    ;;
*)
    echo "s3.sh: $command? install, start, versions, objects or stop" >&2
    exit 2
    ;;
esac
