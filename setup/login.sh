# What the rooms kubernetes, jwt and cert share: another way to log in, for the entity that AppRole logs in as. No room.

# shellcheck shell=bash disable=SC2154,SC2034  # what setup-vault.sh has found out, and what is for the rooms

# Those that the AppRole gives, and its policy: however one logs in, the same is allowed for as long.
token_lifetime=(token_no_default_policy=true token_type="$TOKEN_TYPE"
  token_period="$TOKEN_PERIOD" token_ttl="$TOKEN_TTL" token_max_ttl="$TOKEN_MAX_TTL" token_num_uses=0)
token_settings=(token_policies="$entity" "${token_lifetime[@]}")

# not_empty NAME…: variables that must have a value.
not_empty() {
  local name
  for name in "$@"; do
    [ -n "${!name}" ] || die "$name is empty; give it a value, or unset it to have the default"
  done
}

# place_of SECTION: sets `mount` and `method_role` to what the application has there, or the latter to the entity's name.
place_of() {
  local settings
  settings=$(python "$here/config_loader.py" "$1.role" "$1.mount") || return
  { IFS= read -r method_role; IFS= read -r mount; } <<<"$settings"
  : "${method_role:=$entity}"
}

# auth_method PATH TYPE: enabled if it is not there.
auth_method() {
  local found
  found=$(pick "$1/" type <<<"$auth_methods") || return
  must_be "auth/$1" "$found" "$2"
  [ -n "$found" ] || quietly auth enable -path="$1" "$2" || return
}

# ties_to_entity PATH NAME: whoever logs in at auth/PATH as NAME is the entity, whose name the policy asks for. One that
# a login came before lets go of the name; one that somebody made keeps it.
ties_to_entity() {
  local accessor holder id
  accessor=$(vault read -field=accessor "sys/auth/$1") || return
  holder=$(holder_of "$2") || return
  [ "$holder" != "$entity" ] || return 0
  [ -z "$holder" ] || made_by_a_login "$holder" || die "$2 of auth/$1 is an alias of the entity $holder; delete" \
    "identity/entity/name/$holder if it is no longer used, or have $entity log in under another name"
  [ -z "$holder" ] || quietly delete "identity/entity/name/$holder" || return
  id=$(pick data aliases "mount_accessor=$accessor" id <<<"$entity_data") || return
  quietly write "identity/entity-alias${id:+/id/$id}" name="$2" canonical_id="$entity_id" mount_accessor="$accessor"
}
