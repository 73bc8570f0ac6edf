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
# Left alone, because it belongs to the machine: disks, boot loader, network, host name. The records are in system/storage/,
# system/boot/ and system/inventory.json, the files in etc/ beside system/.

set -eu
umask 077

here=$(cd "$(dirname "$0")" && pwd)
old=$(dirname "$here")
steps='repositories packages extras groups users files units sysctl'
bound='etc/passwd etc/passwd- etc/shadow etc/shadow- etc/group etc/group- etc/gshadow etc/gshadow- etc/subuid etc/subgid
etc/subuid- etc/subgid- etc/fstab etc/crypttab etc/mtab etc/machine-id etc/hostname etc/hosts etc/resolv.conf
etc/default/grub etc/mdadm etc/lvm etc/initramfs-tools/conf.d/resume etc/network/interfaces etc/network/interfaces.d
etc/netplan etc/NetworkManager/system-connections etc/systemd/network etc/sysconfig/network-scripts
etc/udev/rules.d/70-persistent-net.rules etc/.pwd.lock'
apply=no
notes=0

note() { notes=$((notes + 1)); printf '  ! %s\n' "$*"; }

run() {
  if [ "$apply" = yes ]; then
    printf '  + %s\n' "$*"
    "$@" </dev/null
  else
    printf '  would run: %s\n' "$*"
  fi
}

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
  if has apt-get; then run apt-get update; fi
}

step_packages() {
  if has apt-get; then apt_packages; elif has dnf; then dnf_packages; else note 'neither apt-get nor dnf is here'; fi
}

apt_packages() {
  wanted=
  while read -r line <&3; do
    name=${line%%=*} version=${line#*=}
    have=$(dpkg-query -W -f '${db:Status-Status} ${Version}' "$name" 2>/dev/null || true)
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
  # shellcheck disable=SC2086 - a list of words
  if [ -n "$wanted" ]; then run env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $wanted; fi
  while read -r name <&3; do
    if ! apt-mark showhold | grep -qxF "$name"; then run apt-mark hold "$name"; fi
  done 3<"$here/packages-held.txt"
}

obtainable() { apt-get install --simulate --no-install-recommends "$1" >/dev/null 2>&1; }

dnf_packages() {
  wanted=
  while read -r line <&3; do
    if ! rpm -q --quiet "$line"; then wanted="$wanted $line"; fi
  done 3<"$here/packages-manual.txt"
  # shellcheck disable=SC2086 - a list of words
  if [ -n "$wanted" ]; then run dnf install --assumeyes $wanted; fi
}

step_extras() {
  if [ -s "$here/pip.txt" ]; then
    if has python3; then run python3 -m pip install --requirement "$here/pip.txt"; else note 'there is no python3'; fi
  fi
  if [ -s "$here/npm.txt" ]; then
    if has npm; then
      while read -r line <&3; do
        if ! npm ls --global "$line" >/dev/null 2>&1; then run npm install --global "$line"; fi
      done 3<"$here/npm.txt"
    else
      note 'there is no npm'
    fi
  fi
}

step_groups() {
  while IFS=: read -r name _ gid _ <&3; do
    if getent group "$name" >/dev/null; then
      now=$(getent group "$name" | cut -d: -f3)
      if [ "$now" != "$gid" ]; then note "group $name is here with the number $now; it was $gid"; fi
    elif getent group "$gid" >/dev/null; then
      note "the number $gid of group $name is taken by $(getent group "$gid" | cut -d: -f1): it gets another one"
      run groupadd "$name"
    else
      run groupadd --gid "$gid" "$name"
    fi
  done 3<"$old/etc/group"
}

step_users() {
  while IFS=: read -r name _ uid gid comment home shell <&3; do
    if getent passwd "$name" >/dev/null; then
      now=$(getent passwd "$name" | cut -d: -f3)
      if [ "$now" != "$uid" ]; then note "user $name is here with the number $now; it was $uid"; fi
      continue
    fi
    group=$(awk -F: -v gid="$gid" '$3 == gid { print $1; exit }' "$old/etc/group")
    set -- --no-create-home --no-user-group --gid "${group:-$gid}" --home-dir "$home" --shell "$shell" --comment "$comment"
    if getent passwd "$uid" >/dev/null; then
      note "the number $uid of user $name is taken by $(getent passwd "$uid" | cut -d: -f1): it gets another one"
    else
      set -- "$@" --uid "$uid"
    fi
    if [ "$uid" -lt 1000 ]; then set -- "$@" --system; fi
    run useradd "$@" "$name"
    password "$name"
    if [ ! -d "$home" ]; then note "the home of $name, $home, is not here"; fi
  done 3<"$old/etc/passwd"
  while IFS=: read -r name _ _ members <&3; do
    for member in $(printf '%s' "$members" | tr ',' ' '); do
      if ! id -nG "$member" 2>/dev/null | tr ' ' '\n' | grep -qxF "$name"; then run gpasswd --add "$member" "$name"; fi
    done
  done 3<"$old/etc/group"
}

# Over stdin: other users see what stands in a command line.
password() {
  hash=$(awk -F: -v name="$1" '$1 == name { print $2; exit }' "$old/etc/shadow" 2>/dev/null || true)
  case $hash in
    '' | '!'* | '*'*) return ;;
  esac
  if [ "$apply" = yes ]; then
    printf '  + chpasswd --encrypted, for %s\n' "$1"
    printf '%s:%s\n' "$1" "$hash" | chpasswd --encrypted
  else
    printf '  would set the password of %s\n' "$1"
  fi
}

step_files() {
  parts=etc
  if [ -d "$old/var/spool/cron" ]; then parts="$parts var/spool/cron"; fi
  set --
  for path in $bound; do set -- "$@" --exclude="$path"; done
  if [ "$apply" = yes ]; then
    mkdir -p /var/backups
    aside=$(mktemp -d /var/backups/before-rebuild-XXXXXX)
    for part in $parts; do
      if [ -e "/$part" ]; then tar -C / --acls --xattrs -cf - "$part" | tar -C "$aside" --acls --xattrs -xpf -; fi
    done
    printf '  what was there is in %s\n' "$aside"
    # shellcheck disable=SC2086 - a list of words
    tar -C "$old" --anchored --acls --xattrs "$@" -cf - $parts | tar -C / --acls --xattrs -xpf -
  else
    for part in $parts; do
      diff -rq --no-dereference "$old/$part" "/$part" 2>&1 | sed -n \
        -e "s|^Files $old\(/.*\) and .* differ\$|\1|p" \
        -e "s|^Symbolic links $old\(/.*\) and .* differ\$|\1|p" \
        -e "s|^File $old\(/.*\) is a .* while .*\$|\1|p" \
        -e "s|^Only in $old\(/.*\): \(.*\)\$|\1/\2|p" |
        while read -r path; do
          skip=no
          for each in $bound; do
            case $path in "/$each" | "/$each/"*) skip=yes ;; esac
          done
          if [ "$skip" = no ]; then printf '  would write %s\n' "$path"; fi
        done
    done
  fi
  printf '  by hand, where this machine is to be like the old one:\n'
  for path in $bound; do
    case $path in *passwd* | *shadow* | *group* | *subuid* | *subgid* | *.lock) continue ;; esac
    if [ -e "$old/$path" ] && ! diff -rq "$old/$path" "/$path" >/dev/null 2>&1; then printf '    %s\n' "/$path"; fi
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
    now=$(systemctl "$@" is-enabled "$name" 2>/dev/null || true)
    case $state$now in
      enabledenabled | maskedmasked) ;;
      enabled | enablednot-found) note "unit $name is not here: is its package missing?" ;;
      enabled*) run systemctl "$@" enable "$name" ;;
      masked*) run systemctl "$@" mask "$name" ;;
    esac
  done 3<"$here/units.txt"
}

step_sysctl() {
  if has sysctl; then run sysctl --system; else note 'there is no sysctl'; fi
}

if [ "${1-}" = --apply ]; then
  apply=yes
  shift
  if [ $# -eq 0 ]; then
    printf 'name the steps after --apply, or all of them: all\n' >&2
    exit 2
  fi
  if [ "$(id -u)" != 0 ]; then
    printf 'this changes the host, so it has to run as root\n' >&2
    exit 1
  fi
fi
if [ $# -eq 0 ] || [ "$*" = all ]; then set -- $steps; fi
for step in "$@"; do
  case " $steps " in
    *" $step "*) ;;
    *) printf 'there is no step %s; there are %s\n' "$step" "$steps" >&2 && exit 2 ;;
  esac
done
for step in "$@"; do
  printf '%s\n' "$step"
  "step_$step"
done
if [ "$notes" -gt 0 ]; then printf '%s lines with ! want a decision\n' "$notes"; fi
