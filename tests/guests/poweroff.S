/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The shortest life of a guest: power off in the very first instructions. It
 * looks for nothing and sets up nothing (no stack, no runtime), because it is
 * also what the benchmark times: all that remains is the launcher.
 *
 * The port is that of our own board; other machines ignore the write, and for
 * those the debug exit follows.
 */
#include "board/layout.h"
#include "lib/entry.h"

	PVH_NOTE entry

	.code32
	.text
	.globl entry
entry:
	mov	$PORT_ACPI_CONTROL, %edx
	mov	$SLEEP_S5, %al
	out	%al, %dx
	mov	$EXIT_FAILURE, %al
	out	%al, $PORT_DEBUG_EXIT
stay:	hlt
	jmp	stay
