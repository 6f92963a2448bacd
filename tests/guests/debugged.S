/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a debugger may look at, at addresses that are known (tests/system/gdb.c has them): a
 * function to stop in, a variable to watch, int3 and single steps of the guest's own, which it
 * counts, and a loop that only a debugger can end. Entered as Linux is, in 64-bit mode. No runtime,
 * so that nothing else runs.
 */
#include "board/layout.h"
#include "lib/entry.h"

#define RFLAGS_TF  0x100
#define CR4_OSFXSR 0x200
#define BOOT_CS	  0x10 /* of the Linux boot protocol */
#define GATE	  0x8e /* present, an interrupt gate of 64 bits */

/* An interrupt gate to an address below 4 GiB, which must be a number. */
#define GATE_TO(address)                                                                           \
	.word	(address) & 0xffff, BOOT_CS, GATE << 8, (address) >> 16;                           \
	.long	0, 0

#define BASE	  0x100000
#define ON_STEP	  (BASE + 0x200)
#define ON_INT3	  (BASE + 0x300)

	.code64
	.text
	.globl	entry
entry:						/* 0x100000 */
	lidt	idt_pointer
	mov	$stack_end, %esp
	mov	%cr4, %rax
	or	$CR4_OSFXSR, %eax
	mov	%rax, %cr4
	movabs	$0x1122334455667788, %rbx
	movdqu	pattern, %xmm7
	call	function
	int3
	movl	$0x5a, variable
	pushf
	orl	$RFLAGS_TF, (%rsp)
	popf
	nop					/* the step is over behind this */
	nop
	mov	$PORT_SERIAL, %edx
	mov	$'!', %al
	out	%al, %dx			/* whoever waits for this loop may come */
spin:	incl	turns
	cmpl	$0, go
	je	spin
	/* What the debugger did to the registers has stayed. */
	mov	$PORT_ACPI_CONTROL, %edx
	mov	$SLEEP_S5, %al
	cmp	$0x77, %rbx
	jne	hang
	movq	%xmm7, %rcx
	cmp	$0x66, %rcx
	jne	hang
	out	%al, %dx
hang:	hlt
	jmp	hang

	.org	0x100
function:					/* 0x100100 */
	nop
	push	%rbx				/* 0x100101 */
	mov	$1, %ecx			/* 0x100102 */
	pop	%rbx				/* 0x100107 */
	ret

	.org	ON_STEP - BASE
	incl	steps
	andl	$~RFLAGS_TF, 16(%rsp)
	iretq

	.org	ON_INT3 - BASE
	incl	breaks
	iretq

	.data
variable:	.quad	0			/* 0x101000 */
breaks:		.long	0			/* 0x101008 */
steps:		.long	0
go:		.long	0			/* 0x101010 */
turns:		.long	0
pattern:	.quad	0x0706050403020100, 0x0f0e0d0c0b0a0908
idt_pointer:	.word	4 * 16 - 1
		.quad	idt

	.align	16
idt:
	.quad	0, 0
	GATE_TO(ON_STEP)
	.quad	0, 0
	GATE_TO(ON_INT3)

	.bss
	.align	16
	.skip	4096
stack_end:
