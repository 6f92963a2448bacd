/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The handlers of all vectors, the three ways into code that may trap, and the one
 * way out. As in lib/trap-entry.S, nothing is trusted on the way back but the stack
 * pointer that was put down here.
 */
#include "lib/entry.h"

#define DATA	  0x10		/* SEG_DATA */
#define USER_CODE 0x1b
#define USER_DATA 0x23
#define EFLAGS_VM (1 << 17)

	.text
/* #DF, #TS, #NP, #SS, #GP, #PF and #AC have an error code; all others get a 0. */
	.globl	trap_vectors
	.balign	16
trap_vectors:
	.set	n, 0
	.rept	256
	.balign	16
	.if	n != 8 && (n < 10 || n > 14) && n != 17
	push	$0
	.endif
	push	$n
	jmp	common
	.set	n, n + 1
	.endr

common:
	pusha
	push	%ds
	push	%es
	push	%fs
	push	%gs
	mov	$DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	cld
	push	%esp
	call	trap_take

	.globl	trap_leave
trap_leave:
	mov	$DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %fs
	mov	%eax, %gs
	mov	%eax, %ss
	mov	trap_return_stack, %esp
	popf
	popa
	ret

.macro	KEEP
	pusha
	pushf
	mov	%esp, trap_return_stack
.endm
/* Arguments, from behind what is kept and the return address. */
#define ARGUMENT(n) (40 + 4 * n)(%esp)

/* void trap_enter(const void *code, u32 argument, u32 eflags) */
	.globl	trap_enter
trap_enter:
	KEEP
	mov	ARGUMENT(0), %eax
	mov	ARGUMENT(1), %edi
	push	ARGUMENT(2)
	popf
	jmp	*%eax

/* void trap_enter_user(const void *code, u32 argument, u32 eflags, u32 stack) */
	.globl	trap_enter_user
trap_enter_user:
	KEEP
	mov	ARGUMENT(0), %eax
	mov	ARGUMENT(1), %edi
	mov	ARGUMENT(2), %ecx
	mov	ARGUMENT(3), %edx
	mov	$USER_DATA, %ebx
	mov	%ebx, %ds
	mov	%ebx, %es
	mov	$DATA, %esi		/* not his: IRET takes it */
	mov	%esi, %fs
	push	%ebx
	push	%edx
	push	%ecx
	push	$USER_CODE
	push	%eax
	iret

/* void trap_enter_v86(const struct v86 *start, u32 eax) */
	.globl	trap_enter_v86
trap_enter_v86:
	KEEP
	mov	ARGUMENT(0), %esi
	mov	ARGUMENT(1), %eax
	sub	$36, %esp
	mov	%esp, %edi
	mov	$9, %ecx
	cld
	rep movsl
	orl	$EFLAGS_VM, 8(%esp)
	iret

	.bss
	.balign	4
	.globl	trap_return_stack
trap_return_stack:
	.long	0
