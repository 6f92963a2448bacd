/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From 32-bit protected mode into long mode, and on to C. The page tables are
 * data: the assembler fills them in, mapping the low 4 GiB to themselves in pages
 * of 2 MiB. Further CPUs come through here as well, from trampoline.S.
 */
#include "lib/entry.h"

#define CR0_PE	 (1 << 0)
#define CR0_PG	 (1 << 31)
#define CR4_PAE	 (1 << 5)
#define MSR_EFER 0xc0000080
#define EFER_LME (1 << 8)

#define PTE_TABLE 0x3	/* present, writable */
#define PTE_LARGE 0x83	/* and a page of 2 MiB */

	.code32
	.text
	.globl start32, long_mode
start32:
	mov	$start64, %ebx
	/* %ebx: where to go on in long mode. */
long_mode:
	lgdt	gdt_pointer
	mov	$page_tables, %eax
	mov	%eax, %cr3
	mov	$CR4_PAE, %eax
	mov	%eax, %cr4
	mov	$MSR_EFER, %ecx
	rdmsr
	or	$EFER_LME, %eax
	wrmsr
	mov	%cr0, %eax
	or	$(CR0_PG | CR0_PE), %eax
	mov	%eax, %cr0
	ljmp	$SEGMENT_CODE64, $in_long_mode

	.code64
in_long_mode:
	mov	%ebx, %eax
	jmp	*%rax

	.globl start64
start64:
	mov	$SEGMENT_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	$stack_top, %esp
	xor	%ebp, %ebp
	mov	$entry_state, %edi
	call	guest_start
stay:	hlt
	jmp	stay

	.data
	.balign	8
	.globl	gdt
gdt:	.quad	0
	.quad	0x00af9b000000ffff	/* SEGMENT_CODE64 */
	.quad	0x00cf93000000ffff	/* SEGMENT_DATA */
	.quad	0x00cf9b000000ffff	/* SEGMENT_CODE32 */
	.globl	gdt_pointer
gdt_pointer:
	.word	. - gdt - 1
	.quad	gdt

	.balign	4096
	.globl	page_tables
page_tables:
	.quad	directories + PTE_TABLE
	.fill	511, 8, 0
directories:
	.set	n, 0
	.rept	4
	.quad	pages + n * 4096 + PTE_TABLE
	.set	n, n + 1
	.endr
	.fill	508, 8, 0
pages:
	.set	n, 0
	.rept	2048
	.quad	n * 0x200000 + PTE_LARGE
	.set	n, n + 1
	.endr

	.globl	entry_state
entry_state:
	.fill	44, 1, 0

	.bss
	.balign	16
	.fill	STACK_SIZE, 1, 0
	.globl	stack_top
stack_top:
