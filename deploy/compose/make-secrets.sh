#!/bin/sh
# Makes the secrets that compose.yaml mounts, as far as they are not there. Needs openssl.
set -eu
directory=${1:-$(dirname "$0")/secrets}
mkdir -p "$directory"
# The directory keeps others out; the files themselves are read by containers, whose user is another one.
chmod 700 "$directory"
umask 022

# Writes standard input into a file, unless there is one.
keep() {
  if [ -s "$directory/$1" ]; then cat >/dev/null; else cat >"$directory/$1"; fi
}

# Knows nothing but the stand-in for Kore; put your app's secret in its place.
echo 'sandbox-client-secret' | keep kore_client_secret
openssl rand -hex 32 | keep api_token
openssl rand -hex 24 | keep s3_secret_key
openssl rand -hex 16 | keep grafana_password
openssl genpkey -algorithm ed25519 | keep manifest_key
printf '[default]\naws_access_key_id = voicemail\naws_secret_access_key = %s\n' "$(cat "$directory/s3_secret_key")" |
  keep aws_credentials
