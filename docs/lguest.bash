# SPDX-License-Identifier: GPL-2.0-or-later
#
# Completion for lguest in bash: source this file, or leave it to the package
# bash-completion, which finds it in /usr/share/bash-completion/completions.
# Nothing of that package is needed.
#
# What can be said is asked of the program that stands on the command line: its
# options and most of their values are what its --help prints, so that this file
# need not know them. It knows what kind of thing the other values are.
# tests/manual.sh tries it out.

# The words of a line of --help that hold an option, or what follows the option there.
_lguest_options() {
	"$1" --help 2>/dev/null </dev/null | grep -oE -- '--[a-z-]+=?'
}

# "a|b|c", as --help has the value of such an option, one to a line.
_lguest_choices() {
	"$1" --help 2>/dev/null </dev/null | sed -n "s/.*--$2=\([a-z|]*\).*/\1/p" | tr '|' '\n'
}

# The words that make a list, one to a line: who asks for a wrong one is told the right ones.
_lguest_list_words() {
	"$1" "--$2=?" 2>&1 </dev/null | sed -n 's/.*is none of these: //p' | tr -d ' ' | tr ',' '\n'
}

# Each word that is not in the list yet, behind what is.
# _lguest_list LIST WORD...
_lguest_list() {
	local list=$1 word before=
	shift
	[[ $list == *,* ]] && before=${list%,*},
	for word; do
		[[ ,$before == *,"$word",* ]] || printf '%s\n' "$before$word"
	done
}

_lguest_bridges() {
	local bridge
	for bridge in /sys/class/net/*/bridge; do
		[[ -e $bridge ]] || continue
		bridge=${bridge%/bridge}
		printf 'bridge:%s\n' "${bridge##*/}"
	done
}

# Segments that there are: each has a socket where its guests meet.
_lguest_segments() {
	local folder socket
	for folder in "${XDG_RUNTIME_DIR-}/lguest" "/run/user/$UID/lguest" "/tmp/lguest-$UID"; do
		for socket in "$folder"/*.sock; do
			[[ -e $socket ]] || continue
			socket=${socket##*/}
			printf '%s\n' "${socket%.sock}"
		done
	done | sort -u
}

# 1, 2, 4... and all that the host has.
_lguest_cpus() {
	local n all
	all=$(nproc 2>/dev/null || echo 1)
	for ((n = 1; n < all; n *= 2)); do
		echo "$n"
	done
	echo "$all"
}

# What may come behind FILE, in --block=FILE,... and was not said yet.
_lguest_disk_words() {
	local said=${1//,,/} word
	said=,${said#*,}
	for word in ro direct id=; do
		[[ $said == *,"$word",* || $said == *,"$word"?*,* ]] || printf '%s\n' "${1%,*},$word"
	done
}

# What the value of an option may become: one to a line, in $found. And in $kind what
# it is: words; open (more may be attached); files; disk (a file, and perhaps more); folders.
# _lguest_value PROGRAM OPTION VALUE
_lguest_value() {
	kind=words
	case $2 in
	engine | console)
		found=$(_lguest_choices "$1" "$2") ;;
	cpus)
		found=$(_lguest_cpus) ;;
	soft-cache)
		found=$(printf '%s\n' 16M 32M 64M 128M 256M 512M 1G 2G) ;;
	trace | soft-without)
		kind=open
		found=$(_lguest_list "$3" $(_lguest_list_words "$1" "$2")) ;;
	net)
		kind=open
		case $3 in
		*,*) found=$(printf '%s\n' "${3%,*}",hostfwd={tcp,udp}:) ;;
		*) found=user ;;
		esac ;;
	tunnet)
		found=$(_lguest_bridges) ;;
	sharenet)
		found=$(_lguest_segments) ;;
	username)
		found=$(compgen -u) ;;
	chroot)
		kind=folders ;;
	block)
		kind=disk
		if [[ ${3//,,/} == *,* ]]; then
			kind=open
			found=$(_lguest_disk_words "$3")
		fi ;;
	initrd | gdb | trace-file)
		kind=files ;;
	esac
}

# Bash replaces only what is behind the last = or : of a word, if it breaks words there. So a
# reply has to begin there as well. _lguest_add WORD CANDIDATE
_lguest_add() {
	local breaks=${COMP_WORDBREAKS//[!=:]/} kept=
	[[ $breaks && $1 == *[$breaks]* ]] && kept=${1%"${1##*[$breaks]}"}
	COMPREPLY+=("${2#"$kept"}")
}

# Those that begin with the word. _lguest_reply WORD PREFIX CANDIDATE...
_lguest_reply() {
	local word=$1 prefix=$2 candidate
	shift 2
	for candidate; do
		[[ $prefix$candidate != "$word"* ]] || _lguest_add "$word" "$prefix$candidate"
	done
}

# Files, or folders. Bash knows how to show and to quote them. _lguest_files WORD PREFIX KIND
_lguest_files() {
	local begun=${1#"$2"} what=-f file IFS=$'\n'
	compopt -o filenames 2>/dev/null
	begun=${begun#[\"\']}
	begun=${begun//\\/}
	[[ $3 != folders ]] || what=-d
	# The name of a disk has its commas doubled, and more may come behind it.
	[[ $3 != disk ]] || { begun=${begun//,,/,}; compopt -o nospace 2>/dev/null; }
	for file in $(compgen "$what" -- "$begun"); do
		[[ $3 != disk ]] || file=${file//,/,,}
		_lguest_add "$1" "$2$file"
	done
}

# The word at the cursor, and those before it, as the program will see them: bash has cut them up
# at each = and :, and those pieces were not separated by spaces.
_lguest_words() {
	local line=${COMP_LINE:0:COMP_POINT} i piece
	words=()
	for ((i = 0; i <= COMP_CWORD; i++)); do
		piece=${line#"${line%%[![:space:]]*}"}
		((i == COMP_CWORD)) || piece=${COMP_WORDS[i]}
		if [[ $i -gt 0 && $line != [[:space:]]* ]]; then
			words[-1]+=$piece
		else
			words+=("$piece")
		fi
		line=${line#"${line%%[![:space:]]*}"}
		line=${line#"$piece"}
	done
}

# _lguest_complete_value PROGRAM OPTION WORD PREFIX: the prefix is what of the word is not the value.
_lguest_complete_value() {
	local word=$3 prefix=$4 kind= found= IFS=$' \t\n'
	_lguest_value "$1" "$2" "${word#"$prefix"}"
	case $kind in
	files | disk | folders)
		_lguest_files "$word" "$prefix" "$kind" ;;
	*)
		[[ $kind != open ]] || compopt -o nospace 2>/dev/null
		IFS=$'\n'
		_lguest_reply "$word" "$prefix" $found ;;
	esac
}

_lguest() {
	local words word program options option i name plain=0 wants= ended= IFS=$' \t\n'
	COMPREPLY=()
	_lguest_words
	word=${words[-1]}
	program=${words[0]/#\~\//$HOME/}
	type -t -- "$program" >/dev/null || return
	options=$'\n'$(_lguest_options "$program")$'\n-v\n'

	# Where are we? Behind an option that wants a value; or so many plain words; or in the
	# kernel's command line, which begins with the first word behind it that is not ours.
	for ((i = 1; i < ${#words[@]} - 1; i++)); do
		name=${words[i]%%=*}
		if [[ $wants ]]; then
			wants=
		elif [[ $options == *$'\n'"$name="$'\n'* ]]; then
			[[ ${words[i]} == *=* ]] || wants=${name#--}
		elif [[ $options == *$'\n'"$name"$'\n'* ]]; then
			:
		elif ((plain == 2)); then
			ended=1
		else
			((plain++))
		fi
	done

	if [[ $wants ]]; then
		_lguest_complete_value "$program" "$wants" "$word" ''
	elif [[ ! $ended && $word == --*=* ]]; then
		option=${word%%=*}
		_lguest_complete_value "$program" "${option#--}" "$word" "$option="
	elif [[ ! $ended && $word == -* ]]; then
		_lguest_reply "$word" '' $options
		[[ ${COMPREPLY[*]} != *= ]] || compopt -o nospace 2>/dev/null
	elif ((plain == 0)); then
		_lguest_reply "$word" '' 128 256 512 1G 2G 4G 8G
	elif ((plain == 1)); then
		_lguest_files "$word" '' files
	else
		_lguest_reply "$word" '' console=ttyS0 console=hvc0 root=/dev/vda rw quiet nokaslr panic=-1
	fi
}

complete -F _lguest lguest
