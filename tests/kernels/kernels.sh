# shellcheck shell=bash disable=SC2034,SC2154  # variables are shared with ./dev
# ./dev kernels: the agent on other kernels. Sourced by ./dev.
#
# A guest is a cloud kernel of Debian in qemu. It is emulated in full: KVM would be faster, but does
# not work everywhere where /dev/kvm is. Its initramfs holds packages of Debian 12, our programs and
# those end-to-end tests that need nothing else; tests/kernels/init runs them. Downloads stay in
# build/kernels, which may be removed at any time.

kernels=$PWD/build/kernels
userland=bookworm  # what the programs are built for

guests=(bullseye bookworm trixie sid arm64)  # arm64 is bookworm on another CPU
guest_tests=exactness,fates,states,truth,tcp_info
guest_seconds=1800
kernel_packages=(cpio kmod xz-utils)
guest_packages=(dash coreutils util-linux mount procps kmod iproute2 nftables curl nodejs)
guest_programs=(tcpvitals tcp_load tcp_fates tcp_states tcp_refuse)

# The part of the configuration of apt that says where its data is. Nothing of the host's is touched.
suite_apt() {  # SUITE ARCHITECTURE COMMAND...: apt-get or apt-cache, as on a bare system of that suite
  local directory=$kernels/apt/$1-$2
  "$3" -q -o Acquire::Retries=5 -o APT::Sandbox::User=root -o Debug::NoLocking=1 \
    -o APT::Architecture="$2" -o APT::Architectures="$2" -o APT::Install-Recommends=0 \
    -o Dir::Etc::sourcelist="$directory/sources.list" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::State="$directory" -o Dir::State::status="$directory/status" \
    -o Dir::Cache="$directory" "${@:4}"
}

need_lists() {  # SUITE ARCHITECTURE: which packages there are, from the mirror that this machine uses
  local directory=$kernels/apt/$1-$2 mirror
  [[ -f $directory/complete ]] && return
  # shellcheck disable=SC2016  # apt's own variable
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Release: $userland" | head -n 1)
  [[ -n $mirror ]] || die "apt has no source for Debian $userland on this machine: please add one"
  mkdir -p "$directory"/{lists,archives}/partial
  touch "$directory/status"
  echo "deb $mirror $1 main" >"$directory/sources.list"
  say "+ apt-get update ($1, $2)"
  suite_apt "$1" "$2" apt-get update >&2 || die "cannot read the package lists of Debian $1 for $2"
  touch "$directory/complete"
}

unpack() {  # DIRECTORY PACKAGE_FILE...: as dpkg would, without the packages' scripts; whole or not at all
  local name file
  rm -rf "$1.new"
  for name in bin sbin lib; do
    mkdir -p "$1.new/usr/$name"
    ln -s "usr/$name" "$1.new/$name"
  done
  for file in "${@:2}"; do
    dpkg-deb --fsys-tarfile "$file" |
      tar -x -C "$1.new" --keep-directory-symlink --exclude=./usr/share/{doc,man,locale,info,bash-completion}
  done
  mv "$1.new" "$1"
}

# A whole Debian 12 in $kernels/system-ARCHITECTURE, with what the programs are built with: what they
# run on in the guest, and the sysroot of a cross build.
need_system() {  # ARCHITECTURE
  local system=$kernels/system-$1 packages="${guest_packages[*]} ${library_packages[*]}"
  [[ -d $system && $(cat "$system.packages" 2>/dev/null) == "$packages" ]] && return
  rm -rf "$system"
  need_lists $userland "$1"
  say "+ apt-get install --download-only ($userland, $1)"
  suite_apt $userland "$1" apt-get install -y --download-only "${guest_packages[@]}" "${library_packages[@]}" >&2 ||
    die "cannot download the packages of a guest for $1"
  unpack "$system" "$kernels/apt/$userland-$1"/archives/*.deb
  echo "$packages" >"$system.packages"
}

# The suite's newest cloud kernel, image and modules. The package of that name names the others.
need_kernel() {  # SUITE ARCHITECTURE
  local kernel=$kernels/kernel-$1-$2 packages
  [[ -d $kernel ]] && return
  need_lists "$1" "$2"
  packages=$(suite_apt "$1" "$2" apt-cache depends --recurse --important "linux-image-cloud-$2" |
    grep -oE '^linux-(image|binary|modules)-[0-9]\S*' | sort -u) || die "Debian $1 has no cloud kernel for $2"
  say "+ apt-get download ${packages//$'\n'/ } ($1, $2)"
  mkdir -p "$kernel.packages"
  # shellcheck disable=SC2086  # a word for each
  (cd "$kernel.packages" && suite_apt "$1" "$2" apt-get download $packages >&2) ||
    die "cannot download the kernel of Debian $1 for $2"
  unpack "$kernel" "$kernel.packages"/*.deb
  rm -r "$kernel.packages"
}

archive() {  # DIRECTORY [FIND_EXPRESSION...]: as an initramfs on stdout
  (cd "$1" && find . "${@:2}" -print0 | cpio --quiet --null --create --format=newc --owner=0:0)
}

# An initramfs may be several archives, one after the other.
archive_system() {  # SYSTEM: without what only compilers want
  archive "$1" '(' -path ./usr/include -o -path ./usr/share/cmake -o -name '*.a' ')' -prune -o
}

archive_modules() {  # KERNEL VERSION: TCP's and netfilter's, what they need, and the cable
  local modules=usr/lib/modules/$2 parts=$kernels/modules
  rm -rf "$parts" && mkdir -p "$parts/$modules"
  ln -s usr/lib "$parts/lib"
  (cd "$1/$modules" && cp -r --parents kernel/{net,lib,crypto} kernel/arch/*/crypto \
    kernel/drivers/net/veth.ko* "$parts/$modules")
  depmod -b "$parts" "$2" 2>/dev/null  # without the lists of what is built in
  rm "$parts/lib"
  archive "$parts"
}

archive_programs() {  # BUILD_DIRECTORY: init, and the part of this project that runs
  local root=$kernels/programs program
  rm -rf "$root" && mkdir -p "$root"/{dev,proc,sys,tmp,tcpvitals/build/release}
  cp tests/kernels/init "$root"
  cp package.json "$root/tcpvitals"
  cp -r build/js "$root/tcpvitals/build"
  for program in "${guest_programs[@]}"; do cp "$1/$program" "$root/tcpvitals/build/release"; done
  archive "$root"
}

# Boots a guest and keeps what it says in $kernels/NAME.log. A guest that hangs is switched off.
# no_timer_check: on a busy host the timer of an emulated CPU may come too late for that check.
run_guest() {  # NAME SUITE ARCHITECTURE BUILD_DIRECTORY
  local kernel=$kernels/kernel-$2-$3 version emulator console
  case $3 in
    amd64) emulator=(qemu-system-x86_64 -machine pc -cpu max) console=ttyS0 ;;
    arm64) emulator=(qemu-system-aarch64 -machine virt -cpu cortex-a72) console=ttyAMA0 ;;
  esac
  need_system "$3"
  need_kernel "$2" "$3"
  version=$(ls "$kernel/usr/lib/modules")
  { archive_system "$kernels/system-$3"; archive_modules "$kernel" "$version"; archive_programs "$4"; } \
    >"$kernels/initramfs"
  say "+ ${emulator[0]} ($1: $version): ${guest_tests//,/ }"
  timeout $guest_seconds "${emulator[@]}" -accel tcg -m 2048 -smp 2 -net none -display none -monitor none \
    -no-reboot -serial "file:$kernels/$1.log" -kernel "$(find "$kernel" -name 'vmlinuz*')" \
    -initrd "$kernels/initramfs" -append "console=$console panic=-1 quiet no_timer_check tests=$guest_tests" ||
    say "./dev kernels: $1 was switched off, or could not start"
}

# A row for each file of tests, and what failed in full. Fails unless all passed and the guest came to its end.
print_guest() {  # NAME
  awk -v name="$1" -v row='%-9s %-32s %-10s %8s  %s\n' '
    function end_file() {
      if (file != "") printf row, name, version, file, passed + 0 "/" tests + 0, figures
      if (tests == 0 || passed < tests) wrong = 1
      passed = tests = 0; figures = ""
    }
    { sub(/\r$/, "") }
    /^guest: version / { version = $3 }
    /^guest: file / { if (file != "") end_file(); file = $3 }
    /^guest: ok / { ++passed; ++tests }
    /^guest: FAILED / { ++tests; failures = failures "  " substr($0, 8) "\n" }
    /^guest: figures / { figures = figures (figures == "" ? "" : "; ") substr($0, 16) }
    /^guest: end/ { ended = 1 }
    END {
      end_file()
      printf "%s", failures
      if (!ended) print "  " name " did not come to its end"
      exit wrong || !ended
    }' "$kernels/$1.log"
}

test_kernels() {  # [NAME...]
  local name wrong=0
  [[ $# != 0 ]] || set -- "${guests[@]}"
  for name; do
    [[ " ${guests[*]} " == *" $name "* ]] || die "no kernel $name: expected ${guests[*]}"
  done
  for name; do
    if [[ $name == arm64 ]]; then
      need_packages g++-aarch64-linux-gnu qemu-system-arm
      need_system arm64
      build arm64 "${guest_programs[@]}"
      run_guest arm64 $userland arm64 build/arm64
    else
      need_packages qemu-system-x86
      build release "${guest_programs[@]}"
      run_guest "$name" "$name" amd64 build/release
    fi
    print_guest "$name" || { wrong=1; tail -n 20 "$kernels/$name.log" >&2; }
  done
  say "./dev kernels: the consoles are in $kernels/NAME.log"
  return $wrong
}
