/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Away from C and back to it: trap.c's two ways into code that may trap, and the
 * one way out, which the handler's frame is bent to lead to. Nothing is trusted on
 * the way back but the stack pointer that was put down here.
 */
#include "lib/entry.h"

	.text
	.code64

/* Registers that belong to the caller, and where they are kept. */
.macro	KEEP
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	pushfq
	mov	%rsp, trap_return_stack
.endm

/* void trap_enter(u64 code, u64 argument, u64 flags) */
	.globl	trap_enter
trap_enter:
	KEEP
	mov	%rdi, %rax
	mov	%rsi, %rdi
	push	%rdx
	popfq
	jmp	*%rax

/* void trap_enter_user(u64 code, u64 argument, u64 flags, u64 stack) */
	.globl	trap_enter_user
trap_enter_user:
	KEEP
	pushq	$0x2b		/* SEGMENT_USER_DATA */
	push	%rcx
	push	%rdx
	pushq	$0x33		/* SEGMENT_USER_CODE64 */
	push	%rdi
	mov	%rsi, %rdi
	iretq

/* Where the handler returns to. */
	.globl	trap_leave
trap_leave:
	mov	$SEGMENT_DATA, %ecx
	mov	%ecx, %ds
	mov	%ecx, %es
	mov	%ecx, %ss
	cld
	popfq
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

	.bss
	.balign	8
	.globl	trap_return_stack
trap_return_stack:
	.quad	0
