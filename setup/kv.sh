# What the rooms issuer and gateway share: a KV v2 engine. No room.

# shellcheck shell=bash disable=SC2154  # what setup-vault.sh has found out

# kv_mount PATH: a KV v2 engine, enabled if it is not there.
kv_mount() {
  local type version
  type=$(pick "$1/" type <<<"$mounts") || return
  version=$(pick "$1/" options version <<<"$mounts") || return
  must_be "$1" "${type:+$type version ${version:-1}}" "kv version 2"
  [ -z "$type" ] || return 0
  quietly secrets enable -path="$1" -version=2 kv || return
  mounts=$(vault secrets list -format=json) || return
}
