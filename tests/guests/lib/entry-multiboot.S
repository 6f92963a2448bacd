/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way in for Multiboot 1: 32-bit protected mode, paging off, a magic number
 * in %eax, %ebx = information. The header asks for page-aligned modules (bit 0)
 * and a memory map (bit 1).
 */
#include "lib/entry.h"

#define MULTIBOOT_HEADER_MAGIC 0x1badb002
#define MULTIBOOT_HEADER_FLAGS 3

	.section .multiboot, "a"
	.balign	4
	.long	MULTIBOOT_HEADER_MAGIC, MULTIBOOT_HEADER_FLAGS
	.long	-(MULTIBOOT_HEADER_MAGIC + MULTIBOOT_HEADER_FLAGS)

	.code32
	.text
	.globl entry
entry:
	SAVE_ENTRY ENTERED_BY_MULTIBOOT
	jmp	start32
