/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest that the benchmark times: says one byte on the serial port in its first
 * instructions, so that the world can see that it runs, and is gone. Our board
 * powers off at its ACPI register; qemu, which has another, ends at the debug exit.
 */
#include "board/layout.h"
#include "lib/entry.h"

	PVH_NOTE entry

	.code32
	.text
	.globl entry
entry:
	mov	$PORT_SERIAL, %edx
	mov	$'!', %al
	out	%al, %dx
	mov	$PORT_ACPI_CONTROL, %edx
	mov	$SLEEP_S5, %al
	out	%al, %dx
	mov	$EXIT_SUCCESS, %al
	out	%al, $PORT_DEBUG_EXIT
stay:	hlt
	jmp	stay
