/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way in of Linux' 32-bit boot protocol: paging off, %esi = boot_params.
 */
#include "lib/entry.h"

	.code32
	.text
	.globl entry
entry:
	SAVE_ENTRY ENTERED_BY_LINUX32
	jmp	start32
