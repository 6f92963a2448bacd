/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The only two ways across the border between C and translated code.
 *
 * soft_enter() goes in. Everything that translated code cannot do itself is an
 * event: it calls soft_event_stub, with a struct site behind the call; we put the
 * guest's registers where C finds them, call soft_event(), and go on at the address
 * that it returns - or go back to soft_enter()'s caller, if that is NULL. See context.h
 * for which register is where.
 *
 * Tour 6.60: The border
 */
#include "engine/soft/context.h"

#define GPR(n) %gs:CTX_GPR + 8 * (n)

	.text

/* void soft_enter(const void *code): %gs is the vCPU's context, the guest's state in it. */
	.globl soft_enter
	.type soft_enter, @function
soft_enter:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	sub	$8, %rsp
	mov	%rsp, %gs:CTX_STACK
	mov	%rdi, %gs:CTX_CONTINUE
	jmp	load_guest
	.size soft_enter, . - soft_enter

/* A host trap in translated code: the signal handler sent us here, the site is in CTX_SPARE. */
	.globl soft_trap_stub
	.type soft_trap_stub, @function
soft_trap_stub:
	push	%gs:CTX_SPARE
	jmp	soft_event_stub
	.size soft_trap_stub, . - soft_trap_stub

/* Where entry 0 of a jump cache leads, and a block that was dropped: a SITE_JUMP of its own. */
	.globl soft_jump_stub
	.type soft_jump_stub, @function
soft_jump_stub:
	call	*%gs:CTX_EVENT
	.globl soft_jump_site
soft_jump_site:
	.byte	ENTER_SITE_JUMP
	.zero	15
	.size soft_jump_stub, . - soft_jump_stub

/*
 * Out of translated code. It called us with a struct site behind the call, so our return
 * address is the site's. All that C may want to see, or change, goes to the context; the flags
 * are the trouble, because most instructions that could save them would spoil some. LAHF and
 * SETO do not.
 *
 * Tour 6.61: Out
 */
	.globl soft_event_stub
	.type soft_event_stub, @function
soft_event_stub:
	mov	%rax, GPR(0)
	mov	%r11, GPR(1)
	mov	%rdx, GPR(2)
	mov	%rbx, GPR(3)
	mov	%r15, GPR(4)
	mov	%rbp, GPR(5)
	mov	%rsi, GPR(6)
	mov	%rdi, GPR(7)
	mov	%r8, GPR(8)
	mov	%r12, GPR(12)
	mov	%r13, GPR(13)
	mov	%r14, GPR(14)
	mov	%r9, %gs:CTX_ADDRESS
	mov	%r10, %gs:CTX_ADDEND
	/* lahf has all of them but OF. */
	lahf
	seto	%al
	movzx	%ah, %ecx
	movzx	%al, %eax
	shl	$11, %eax
	or	%ecx, %eax
	and	$0x8d5, %eax
	mov	%rax, %gs:CTX_ARITH
	pop	%rsi
	mov	%gs:CTX_SELF, %rdi
	mov	%gs:CTX_STACK, %rsp
	call	soft_event
	test	%rax, %rax
	jz	leave_guest
	mov	%rax, %gs:CTX_CONTINUE

/*
 * And in. The flags come first, because it takes registers to make them; OF is made by an addition
 * that overflows, or does not. The last jump needs no register either.
 *
 * Tour 6.62: And back in
 */
load_guest:
	mov	%gs:CTX_STACKUSER, %rsp
	mov	%gs:CTX_ARITH, %edx
	mov	%dl, %ah
	shr	$11, %edx
	and	$1, %edx
	mov	%dl, %al
	add	$0x7f, %al	/* overflows if it was 1 */
	sahf
	mov	GPR(0), %rax
	mov	GPR(1), %r11
	mov	GPR(2), %rdx
	mov	GPR(3), %rbx
	mov	GPR(4), %r15
	mov	GPR(5), %rbp
	mov	GPR(6), %rsi
	mov	GPR(7), %rdi
	mov	GPR(8), %r8
	mov	GPR(12), %r12
	mov	GPR(13), %r13
	mov	GPR(14), %r14
	mov	%gs:CTX_ADDRESS, %r9
	mov	%gs:CTX_ADDEND, %r10
	jmp	*%gs:CTX_CONTINUE

leave_guest:	/* on C's stack already */
	add	$8, %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret
	.size soft_event_stub, . - soft_event_stub

	.section .note.GNU-stack, "", @progbits
