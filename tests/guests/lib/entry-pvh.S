/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way in for PVH: 32-bit protected mode, paging off, %ebx = start_info.
 */
#include "lib/entry.h"

	PVH_NOTE entry

	.code32
	.text
	.globl entry
entry:
	SAVE_ENTRY ENTERED_BY_PVH
	jmp	start32
