#!/usr/bin/env bash
# Sourced by start-redis, and by the scripts that choose its container's limit: how much memory Redis needs.

# redis_mib SIZE: a size as Redis reads it, in MiB, rounded up; nothing if it is none. 1g is 10^9 bytes, 1gb is 2^30.
redis_mib() {
  local form='^([0-9]{1,15})(b|k|kb|m|mb|g|gb)?$' unit=1
  [[ "${1,,}" =~ $form ]] || return 0
  case "${BASH_REMATCH[2]}" in
  k) unit=1000 ;;
  kb) unit=1024 ;;
  m) unit=1000000 ;;
  mb) unit=1048576 ;;
  g) unit=1000000000 ;;
  gb) unit=1073741824 ;;
  esac
  echo $(((10#${BASH_REMATCH[1]} * unit + 1048575) / 1048576))
}

# redis_mib_needed REDIS_MAXMEMORY: the limit that its container needs, in MiB; nothing if the setting is not usable.
# A quarter more than the data is for fragmentation and for what changes while the append-only file is rewritten: with
# 256 MiB of data and 1,260 writes a second that was 41 MiB in all.
redis_mib_needed() {
  local mib
  mib="$(redis_mib "$1")"
  # 0 is no limit to Redis; a number without a unit is bytes.
  [[ -n "$mib" ]] && ((mib >= 16)) || return 0
  echo $((mib + mib / 4 + 32))
}
