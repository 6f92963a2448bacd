/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way in for guests that stay in 32-bit protected mode, paging off: PVH, and
 * on to C.
 */
#include "lib/entry.h"

	PVH_NOTE entry

	.text
	.globl entry
entry:
	SAVE_ENTRY ENTERED_BY_PVH
	xor	%ebp, %ebp
	push	$entry_state
	call	guest_start
stay:	hlt
	jmp	stay

	.data
	.balign	4
	.globl	entry_state
entry_state:
	.fill	44, 1, 0

	.bss
	.balign	16
	.fill	STACK_SIZE, 1, 0
	.globl	stack_top
stack_top:
