/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a further CPU wakes up: in real mode, at the page that its start-up
 * message named. These bytes are copied there; cpus.c does that. From here it is
 * two jumps to long mode, with a stack of its own, and ap_main(stack) in C.
 */
#include "lib/entry.h"

	.text
	.globl trampoline, trampoline_end
	.code16
trampoline:
	cli
	/* The copy knows its own address: %cs times 16. lgdt wants it relative to %ds. */
	mov	%cs, %ax
	mov	%ax, %ds
	lgdtl	trampoline_gdt - trampoline
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	ljmpl	$SEGMENT_CODE32, $further_cpu
trampoline_gdt:
	.word	4 * 8 - 1
	.long	gdt
trampoline_end:

	.code32
further_cpu:
	mov	$SEGMENT_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	$further_cpu64, %ebx
	jmp	long_mode

	.code64
further_cpu64:
	mov	$STACK_SIZE, %eax
	lock xadd %eax, next_stack
	lea	STACK_SIZE(%rax), %rsp
	call	ap_main
stay:	cli
	hlt
	jmp	stay

	.data
	.balign	4
	/* cpus.c points it at the first free stack before it wakes anyone. */
	.globl	next_stack
next_stack:
	.long	0
