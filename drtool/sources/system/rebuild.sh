#!/bin/sh
# Rebuild of @HOST@: @OS@, @ARCHITECTURE@.
#
# Read this before you run it. It works from the directory that the snapshot was restored into, on a freshly installed host of
# the same distribution, as root:
#
#   sh system/rebuild.sh                  says what each step would do, and changes nothing
#   sh system/rebuild.sh STEP…            the same, of these steps
#   sh system/rebuild.sh --apply STEP…    does these steps; `all` are all of them, in this order
#
# Steps
#   repositories  where packages come from, and their keys
#   packages      what was installed by hand, in its recorded version where that can still be had; holds
#   extras        what pip and npm had installed
#   groups        those that are missing, by name; a number that is taken stays with who has it
#   users         the same, with their passwords and memberships
#   files         /etc and crontabs over what is there; what was there is put aside first
#   units         enabled and masked as they were
#   sysctl        the settings that /etc/sysctl.d has
#
# What fails is marked with !, the rest is done all the same, and the script ends with 1.
#
# Left alone, because it belongs to the machine: disks, boot loader, network, host name. The records are in system/storage/,
# system/boot/ and system/inventory.json, the files in etc/ beside system/.

set -euf
umask 022

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
old=$(dirname "$here")
cd /
steps='repositories packages extras groups users files units sysctl'
bound='etc/passwd etc/passwd- etc/shadow etc/shadow- etc/group etc/group- etc/gshadow etc/gshadow- etc/subuid etc/subgid
etc/subuid- etc/subgid- etc/fstab etc/crypttab etc/mtab etc/machine-id etc/hostname etc/hosts etc/resolv.conf
etc/default/grub etc/mdadm etc/lvm etc/initramfs-tools/conf.d/resume etc/network/interfaces etc/network/interfaces.d
etc/netplan etc/NetworkManager/system-connections etc/systemd/network etc/sysconfig/network-scripts
etc/udev/rules.d/70-persistent-net.rules etc/.pwd.lock'
apply=no
notes=0
failures=0

note() { notes=$((notes + 1)); printf '  ! %s\n' "$*"; }

die() { printf '%s\n' "$*" >&2; exit 1; }

run() {
  if [ "$apply" = yes ]; then
    printf '  + %s\n' "$*"
    "$@" </dev/null
  else
    printf '  would run: %s\n' "$*"
  fi
}

try() { run "$@" || { failures=$((failures + 1)); note "that failed: $*"; }; }

has() { command -v "$1" >/dev/null 2>&1; }

step_repositories() {
  for part in etc/apt/sources.list etc/apt/sources.list.d etc/apt/keyrings etc/apt/trusted.gpg.d etc/apt/preferences.d \
    etc/apt/auth.conf.d usr/share/keyrings usr/local/share/keyrings etc/yum.repos.d etc/pki/rpm-gpg; do
    if [ ! -e "$old/$part" ] || diff -rq "$old/$part" "/$part" >/dev/null 2>&1; then continue; fi
    if [ -d "$old/$part" ]; then
      run mkdir -p "/$part"
      run cp -a "$old/$part/." "/$part/"
    else
      run cp -a "$old/$part" "/$part"
    fi
  done
  if has apt-get; then try apt-get update; fi
}

step_packages() {
  if has apt-get; then apt_packages; elif has dnf; then dnf_packages; else note 'neither apt-get nor dnf is here'; fi
}

apt_packages() {
  wanted=
  while read -r line <&3; do
    name=${line%%=*} version=${line#*=}
    case $line in
      [!a-z0-9]* | *[!A-Za-z0-9+.:~=-]* | *-=*) note "$line is the name of no package"; continue ;;
    esac
    have=$(dpkg-query -W -f '${db:Status-Status} ${Version}' -- "$name" 2>/dev/null || true)
    case $have in
      "installed $version") ;;
      installed\ *) note "$name is here as ${have#installed }; it was $version" ;;
      *)
        if obtainable "$line"; then
          wanted="$wanted $line"
        elif obtainable "$name"; then
          note "$name $version cannot be had any more: the version of today is taken"
          wanted="$wanted $name"
        else
          note "$name $version cannot be had: is its repository missing?"
        fi
        ;;
    esac
  done 3<"$here/packages-manual.txt"
  if [ -n "$wanted" ]; then
    # shellcheck disable=SC2086 - a list of words; a setting that is there already stays
    try env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
      -o Dpkg::Options::=--force-confold $wanted
  fi
  while read -r name <&3; do
    if [ "$(dpkg-query -W -f '${db:Status-Want}' -- "$name" 2>/dev/null || true)" != hold ]; then
      try apt-mark hold -- "$name"
    fi
  done 3<"$here/packages-held.txt"
}

obtainable() { apt-get install --simulate --no-install-recommends -- "$1" >/dev/null 2>&1; }

dnf_packages() {
  wanted=
  while read -r line <&3; do
    if ! rpm -q --quiet "$line"; then wanted="$wanted $line"; fi
  done 3<"$here/packages-manual.txt"
  # shellcheck disable=SC2086 - a list of words
  if [ -n "$wanted" ]; then try dnf install --assumeyes $wanted; fi
}

step_extras() {
  if [ -s "$here/pip.txt" ]; then
    python=/usr/bin/python3
    if [ ! -x "$python" ]; then python=python3; fi
    if "$python" -m pip --version >/dev/null 2>&1; then
      set --
      if "$python" -m pip install --help | grep -q -e --break-system-packages; then set -- --break-system-packages; fi
      try "$python" -m pip install "$@" --requirement "$here/pip.txt"
    else
      note 'there is no pip'
    fi
  fi
  if [ -s "$here/npm.txt" ]; then
    if has npm; then
      while read -r line <&3; do
        if ! npm ls --global -- "$line" >/dev/null 2>&1; then try npm install --global -- "$line"; fi
      done 3<"$here/npm.txt"
    else
      note 'there is no npm'
    fi
  fi
}

step_groups() {
  while IFS=: read -r name _ gid _ <&3 || [ -n "$name" ]; do
    if ! usable group "$name" "$gid"; then continue; fi
    if getent group "$name" >/dev/null; then
      now=$(getent group "$name" | cut -d: -f3)
      if [ "$now" != "$gid" ]; then note "group $name is here with the number $now; it was $gid"; fi
    elif getent group "$gid" >/dev/null; then
      note "the number $gid of group $name is taken by $(getent group "$gid" | cut -d: -f1): it gets another one"
      try groupadd "$name"
    else
      try groupadd --gid "$gid" "$name"
    fi
  done 3<"$old/etc/group"
}

# Whether a line is of somebody, and not a remark or a directory service's.
usable() {
  case $2 in '' | '#'*) return 1 ;; esac
  case $2:$3 in
    [+-]* | *: | *:*[!0-9]*) note "$1 $2 is none of this file's own: it is passed over"; return 1 ;;
  esac
}

step_users() {
  while IFS=: read -r name _ uid gid comment home shell <&3 || [ -n "$name" ]; do
    if ! usable user "$name" "$uid"; then continue; fi
    if getent passwd "$name" >/dev/null; then same_user; continue; fi
    group=$(awk -F: -v gid="$gid" '$3 == gid { print $1; exit }' "$old/etc/group")
    set -- --no-create-home --no-user-group --gid "${group:-$gid}" --home-dir "$home" --shell "$shell" --comment "$comment"
    if getent passwd "$uid" >/dev/null; then
      note "the number $uid of user $name is taken by $(getent passwd "$uid" | cut -d: -f1): it gets another one"
    else
      set -- "$@" --uid "$uid"
    fi
    if [ "$uid" -lt 1000 ]; then set -- "$@" --system; fi
    if run useradd "$@" "$name"; then
      password "$name"
      aging "$name"
    else
      failures=$((failures + 1))
      note "user $name could not be made"
    fi
    if [ ! -d "$home" ]; then note "the home of $name, $home, is not here"; fi
  done 3<"$old/etc/passwd"
  while IFS=: read -r name _ _ members <&3 || [ -n "$name" ]; do
    case $name in '' | [#+-]*) continue ;; esac
    for member in $(printf '%s' "$members" | tr ',' ' '); do
      if id -nG -- "$member" 2>/dev/null | tr ' ' '\n' | grep -qxF -e "$name"; then continue; fi
      if getent passwd -- "$member" >/dev/null || grep -q -e "^$member:" "$old/etc/passwd"; then
        try gpasswd --add "$member" "$name"
      else
        note "there is no user $member, who was in group $name"
      fi
    done
  done 3<"$old/etc/group"
}

# A user who is here stays as he is; what he was is told.
same_user() {
  now=$(getent passwd "$name" | cut -d: -f3,6,7)
  if [ "$now" != "$uid:$home:$shell" ]; then note "user $name is here as $now; it was $uid:$home:$shell"; fi
  hash=$(shadowed "$old/etc/shadow" "$name" 2)
  case $hash in
    '' | [!\$]*) return ;;
  esac
  if [ -r /etc/shadow ] && [ "$(shadowed /etc/shadow "$name" 2)" != "$hash" ]; then
    note "user $name keeps the password that is here"
  fi
}

shadowed() {
  name=$2 awk -F: -v field="$3" '$1 == ENVIRON["name"] { print $field; exit }' "$1" 2>/dev/null || true
}

# When the password was set and has to be changed, and when the account ends: one that had ended must not come back.
aging() {
  user=$1
  set --
  for each in lastday:3 mindays:4 maxdays:5 warndays:6 inactive:7 expiredate:8; do
    value=$(shadowed "$old/etc/shadow" "$user" "${each#*:}")
    if [ -n "$value" ]; then set -- "$@" "--${each%:*}" "$value"; fi
  done
  if [ $# -gt 0 ]; then try chage "$@" "$user"; fi
}

# Over stdin: other users see what stands in a command line.
password() {
  hash=$(shadowed "$old/etc/shadow" "$1" 2)
  case $hash in
    '') note "user $1 had no password, or none is known: it is locked here"; return ;;
    '!' | '!!' | '*' | '!*' | x) return ;;
  esac
  if [ "$apply" = yes ]; then
    printf '  + chpasswd --encrypted, for %s\n' "$1"
    if ! printf '%s:%s\n' "$1" "$hash" | chpasswd --encrypted; then
      failures=$((failures + 1))
      note "the password of $1 could not be set"
    fi
  else
    printf '  would set the password of %s\n' "$1"
  fi
}

step_files() {
  parts=etc
  if [ -d "$old/var/spool/cron" ]; then parts="$parts var/spool/cron"; fi
  set --
  for path in $bound; do set -- "$@" --exclude="$path"; done
  strangers
  if [ "$apply" = yes ]; then
    mkdir -p /var/backups
    aside=$(mktemp -d /var/backups/before-rebuild-XXXXXX)
    for part in $parts; do
      if [ -e "/$part" ]; then
        mkdir -p "$aside/$(dirname "$part")"
        cp -a "/$part" "$aside/$part"
      fi
    done
    printf '  what was there is in %s\n' "$aside"
    # shellcheck disable=SC2086 - a list of words
    { tar -C "$old" --anchored --acls --xattrs "$@" -cf - $parts || : >"$aside.unread"; } |
      tar -C / --acls --xattrs -xpf -
    if [ -e "$aside.unread" ]; then die "not all of $old could be read: what is above was not restored"; fi
  else
    # shellcheck disable=SC2086 - a list of words
    tar -C "$old" --anchored "$@" -cf - $parts | LC_ALL=C tar -C / --diff -f - 2>&1 | sed -E \
      -e '/: Mod time differs$/d' -e '/^tar: Exiting/d' -e 's/^tar: //' \
      -e 's/: (Mode|Uid|Gid|Size|Contents|Symlink|File type|Device number) differs?$//' \
      -e 's/: Warning: Cannot [a-z]+: No such file or directory$//' | sort -u | sed -e 's|^|  would write /|'
  fi
  printf '  by hand, where this machine is to be like the old one:\n'
  for path in $bound; do
    case $path in *passwd* | *shadow* | *group* | *subuid* | *subgid* | *.lock) continue ;; esac
    if [ -e "$old/$path" ] && ! diff -rq "$old/$path" "/$path" >/dev/null 2>&1; then printf '    %s\n' "/$path"; fi
  done
}

# Files carry numbers. One that is somebody else's here gives them to the wrong one.
strangers() {
  for kind in passwd:uid group:gid; do
    while IFS=: read -r name _ number _ <&3 || [ -n "$name" ]; do
      case $number in '' | *[!0-9]*) continue ;; esac
      now=$(getent "${kind%:*}" "$number" | cut -d: -f1)
      if [ -z "$now" ] || grep -q -e "^$now:[^:]*:$number:" "$old/etc/${kind%:*}"; then continue; fi
      # shellcheck disable=SC2086 - a list of words
      if [ -n "$(cd "$old" && find $parts "-${kind#*:}" "$number" -print -quit)" ]; then
        note "files in $old have the ${kind#*:} $number, which is $now here and was $name: look whose they are" \
          '(restored once more, after the steps groups and users, they get their owners by name)'
      fi
    done 3<"$old/etc/${kind%:*}"
  done
}

step_units() {
  if ! has systemctl; then note 'there is no systemctl'; return; fi
  tab=$(printf '\t')
  while IFS="$tab" read -r state name <&3; do
    set -- ''
    case $name in
      user/*) set -- --global; name=${name#user/} ;;
      *) set -- --system ;;
    esac
    case $name in *[!A-Za-z0-9:_.@\\-]*) note "$name is the name of no unit"; continue ;; esac
    now=$(systemctl "$@" is-enabled -- "$name" 2>/dev/null || true)
    case $state$now in
      enabledenabled | maskedmasked) ;;
      enabled | enablednot-found) note "unit $name is not here: is its package missing?" ;;
      enabled*) try systemctl "$@" enable -- "$name" ;;
      masked*) try systemctl "$@" mask -- "$name" ;;
    esac
  done 3<"$here/units.txt"
}

step_sysctl() {
  if has sysctl; then try sysctl --system; else note 'there is no sysctl'; fi
}

if [ "${1-}" = --apply ]; then
  apply=yes
  shift
  if [ $# -eq 0 ]; then
    printf 'name the steps after --apply, or all of them: all\n' >&2
    exit 2
  fi
  if [ "$(id -u)" != 0 ]; then die 'this changes the host, so it has to run as root'; fi
  # who owns a file that becomes one of /etc owns the host
  if [ -n "$(find "$old/etc" -maxdepth 0 ! -user 0)" ]; then
    die "$old/etc does not belong to root: restore it as root, so that everything belongs to whom it belonged"
  fi
fi
if [ $# -eq 0 ] || [ "$*" = all ]; then set -- $steps; fi
for step in "$@"; do
  case " $steps " in
    *" $step "*) ;;
    *) printf 'there is no step %s; there are %s\n' "$step" "$steps" >&2 && exit 2 ;;
  esac
done
if [ "$old" = / ]; then die 'what was restored lies over this host already: restore it into a directory of its own'; fi
if [ ! -d "$old/etc" ]; then die "there is no $old/etc: this works from a whole snapshot of a system"; fi
for step in "$@"; do
  printf '%s\n' "$step"
  "step_$step"
done
if [ "$notes" -gt 0 ]; then printf '%s lines with ! want a decision\n' "$notes"; fi
if [ "$failures" -gt 0 ]; then die "$failures of them failed"; fi
