/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way in of Linux' 64-bit boot protocol: long mode, what we need mapped one
 * to one, %rsi = boot_params. The same notes are taken as SAVE_ENTRY takes.
 */
#include "lib/entry.h"

	.code64
	.text
	.globl entry
entry:
	mov	%eax, entry_state + 4
	movl	$ENTERED_BY_LINUX64, entry_state
	mov	%ebx, entry_state + 8
	mov	%esi, entry_state + 12
	mov	%edi, entry_state + 16
	mov	%ebp, entry_state + 20
	mov	%cr0, %rax
	mov	%eax, entry_state + 24
	mov	%cr4, %rax
	mov	%eax, entry_state + 28
	mov	$stack_top, %esp
	pushf
	pop	%rax
	mov	%eax, entry_state + 32
	mov	%cs, entry_state + 36
	mov	%ds, entry_state + 38
	mov	%es, entry_state + 40
	mov	%ss, entry_state + 42

	/* Our own GDT and page tables: the loader's cover only what the protocol promises. */
	lgdt	gdt_pointer
	mov	$page_tables, %eax
	mov	%rax, %cr3
	pushq	$SEGMENT_CODE64
	pushq	$start64
	lretq
