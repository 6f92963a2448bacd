# SPDX-License-Identifier: GPL-2.0-or-later
#
# What bash would offer behind a piece of a command line: docs/lguest.bash, called as
# bash calls it, without a terminal.  tests/manual.sh runs this:
#
#   bash tests/completion.bash PROGRAM          some situations; status 1 if any went wrong
#   bash tests/completion.bash PROGRAM LINE     print what is offered behind that line
#
# PROGRAM is an absolute path, and stands for "lguest" in the lines.
set -u
program=$1
here=$(cd "$(dirname "$0")/.." && pwd)
# As bash has it when it is typed into.
COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
. "$here/docs/lguest.bash"

# Bash gives each = and : a word of its own.
split() {
	local rest=$1 blanks=$' \t'
	COMP_WORDS=()
	while [[ $rest ]]; do
		if [[ $rest =~ ^["$blanks"]+ ]]; then
			rest=${rest#"${BASH_REMATCH[0]}"}
			[[ $rest ]] || COMP_WORDS+=('')
		elif [[ $COMP_WORDBREAKS == *"${rest:0:1}"* ]]; then
			COMP_WORDS+=("${rest:0:1}")
			rest=${rest:1}
		else
			[[ $rest =~ ^([^"$COMP_WORDBREAKS"\\]|\\.)+ ]]
			COMP_WORDS+=("${BASH_REMATCH[0]}")
			rest=${rest#"${BASH_REMATCH[0]}"}
		fi
	done
	COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
}

# offer LINE: sets COMPREPLY, with the cursor at the end of the line.
offer() {
	COMP_LINE=$program${1#lguest}
	COMP_POINT=${#COMP_LINE}
	split "$COMP_LINE"
	COMPREPLY=()
	_lguest "$program" "${COMP_WORDS[COMP_CWORD]}" ''
}

if [[ $# -gt 1 ]]; then
	offer "$2"
	printf '%s\n' "${COMPREPLY[@]}"
	exit
fi

failed=0
count=0
# expect LINE REPLY...: these, and in this order.
expect() {
	local line=$1 wanted got
	shift
	offer "$line"
	wanted=$(printf '<%s>' "$@")
	got=$(printf '<%s>' "${COMPREPLY[@]}")
	((count++))
	[[ $wanted == "$got" ]] && return
	echo "completion: error: \"$line\": offered $got and not $wanted"
	failed=1
}

folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
cd "$folder" || exit
touch vmlinuz initrd.img disk.img 'my disk.img' one,two.img
mkdir images
touch images/other.img

expect 'lguest --eng' --engine=
expect 'lguest --gdb' --gdb= --gdb-wait
expect 'lguest --soft-cache=64 --no-reb' --no-reboot
expect 'lguest --frob' # nothing

# Values: behind =, and as a word of their own.
expect 'lguest --engine=' auto kvm soft help
expect 'lguest --engine s' soft
expect 'lguest --console=v' virtio
expect 'lguest --soft-cache=1' 16M 128M 1G
expect 'lguest --net=' user
expect 'lguest --net=user,h' user,hostfwd=tcp: user,hostfwd=udp:
expect 'lguest --net=user,hostfwd=tcp:2222:22,h' 22,hostfwd=tcp: 22,hostfwd=udp:
expect 'lguest --username=roo' root

# Lists: what is in them already is not offered again.
expect 'lguest --trace=' exec int mmu io
expect 'lguest --trace=int,' int,exec int,mmu int,io
expect 'lguest --soft-without=links,ret' links,returns

# Files, which are bash's to quote.
expect 'lguest --initrd=in' initrd.img
expect 'lguest --initrd my\ d' 'my disk.img'
expect 'lguest --block=disk' disk.img
expect 'lguest --block=images/o' images/other.img
expect 'lguest --block=one' one,,two.img
expect 'lguest --block=one,,two.img,d' one,,two.img,direct
expect 'lguest --block=disk.img,' disk.img,ro disk.img,direct disk.img,id=
expect 'lguest --block=disk.img,ro,' disk.img,ro,direct disk.img,ro,id=
expect 'lguest --chroot=' images

# What comes where: memory, the kernel, and behind it ours until the kernel's begin.
expect 'lguest 5' 512
expect 'lguest --cpus 2 --rng 1' 128 1G
expect 'lguest 512 vm' vmlinuz
expect 'lguest 512 --initrd initrd.img vm' vmlinuz
expect 'lguest 512 vmlinuz --ini' --initrd=
expect 'lguest 512 vmlinuz --rng --ini' --initrd=
expect 'lguest 512 vmlinuz quiet --ini' # the kernel's
expect 'lguest 512 vmlinuz -- --ini' # the kernel's
expect 'lguest 512 vmlinuz cons' console=ttyS0 console=hvc0
expect 'lguest 512 vmlinuz quiet console=h' hvc0

# Some do not have their words broken at =.
COMP_WORDBREAKS=${COMP_WORDBREAKS//=/}
expect 'lguest --engine=k' --engine=kvm
expect 'lguest --block=disk' --block=disk.img

# A program that is not there has nothing to offer, and nobody is bothered.
program=/nowhere/lguest
expect 'lguest --eng'

echo "completion: $count situations"
exit $failed
