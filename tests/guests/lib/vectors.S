/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the CPU runs first on an interrupt: one small stub per vector, which says
 * which one it is. Exceptions 8, 10 to 14, 17, 21, 29 and 30 come with an error code;
 * for the others a zero stands in, so that all frames are alike.
 */
#define VECTOR_STUB_SIZE 16
#define HAS_ERROR_CODE	 0x60227d00

	.text
	.code64
	.balign	VECTOR_STUB_SIZE
	.globl	vector_stubs
vector_stubs:
	.set	vector, 0
	.rept	256
	.balign	VECTOR_STUB_SIZE
	.if	vector >= 32 || !((HAS_ERROR_CODE >> (vector & 31)) & 1)
	pushq	$0
	.endif
	pushq	$vector
	jmp	taken
	.set	vector, vector + 1
	.endr

taken:
	push	%r11
	push	%r10
	push	%r9
	push	%r8
	push	%rdi
	push	%rsi
	push	%rdx
	push	%rcx
	push	%rax
	cld
	mov	%rsp, %rdi
	/* C wants the stack aligned to 16; %rbp is saved by whoever it calls. */
	push	%rbp
	mov	%rsp, %rbp
	and	$-16, %rsp
	call	interrupt_taken
	mov	%rbp, %rsp
	pop	%rbp
	pop	%rax
	pop	%rcx
	pop	%rdx
	pop	%rsi
	pop	%rdi
	pop	%r8
	pop	%r9
	pop	%r10
	pop	%r11
	add	$16, %rsp
	iretq
