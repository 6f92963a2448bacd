/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest programs for test_soft_signals.c, which copies them into a guest and runs them, and the
 * host code with which it steps through what becomes of them.
 *
 * A program begins with an event, does the same twice or more - cold, when all it touches is missing
 * from the TLB and nothing is linked; then warm - and counts down r14 as it does. rbx and rbp are
 * DATA_AT and two pages behind, r9 one more, r12 is a page that is not there, fs and gs are near
 * r9. What it leaves in memory and registers is compared.
 */
#include "soft_signals.h"

#define FLAGS_TF 0x100

	.macro	place name
	.globl	\name
	.hidden	\name
\name:
	.endm

/* ------------------------------------------------------------------ the host's */

/* What enter.S calls in the place of soft_event(); TF may be set already, until here. */

	.text
	.globl	__wrap_soft_event
	.type	__wrap_soft_event, @function
__wrap_soft_event:
	sub	$8, %rsp
	call	__real_soft_event
	mov	%rax, %rdi
	call	event_served
	add	$8, %rsp
	cmpb	$0, step_from_here(%rip)
	je	1f
	pushfq
	orq	$FLAGS_TF, (%rsp)
	popfq
1:	ret
	.size	__wrap_soft_event, . - __wrap_soft_event
	place	wrap_end

	.bss
	place	step_from_here
	.zero	1

/* ------------------------------------------------------------------ the guest's kernel */

	.section .rodata
	place	kernel_begin
	place	kernel_nmi
	incq	NMI_COUNT
	mov	%r14, NMI_ROUNDS
	iretq

	/* Over what faulted: each program has it in one length only. */
	place	kernel_divide
	addq	$2, (%rsp)
	iretq
	place	kernel_undefined
	addq	$2, (%rsp)
	iretq
	place	kernel_page_fault
	addq	$4, 8(%rsp)
	lea	8(%rsp), %rsp
	iretq

	place	kernel_syscall
	swapgs
	mov	%rsp, %gs:0
	mov	%gs:8, %rsp
	push	%rcx
	push	%r11
	incq	%gs:16
	mov	%gs:16, %rax
	pop	%r11
	pop	%rcx
	mov	%gs:0, %rsp
	swapgs
	sysretq
	place	kernel_end

/* ------------------------------------------------------------------ programs */

	.macro	program name
	place	program_\name
	in	$PORT_START, %al
	.endm

	/* Round again, if it is not over. */
	.macro	again to
	lea	-1(%r14), %r14
	test	%r14, %r14
	jnz	\to
	.endm

	.macro	finish
	in	$PORT_AWAIT, %al
	fxsave	SAVE_AT
	out	%al, $PORT_END
	hlt
	.endm

	.macro	end name
	place	program_\name\()_end
	.endm

	/* Only in 64-bit mode. */
	.macro	save_upper
	vextractf128 $1, %ymm1, SAVE_AT + 512
	vextractf128 $1, %ymm2, SAVE_AT + 528
	.endm

	program	accesses
1:	mov	(%rbx), %rax
	mov	%rax, 8(%rbp)
	movzbl	3(%r9, %r10, 4), %ecx
	mov	%ecx, 0x200(%rbx, %rcx, 2)
	add	%rdx, 16(%rbx)
	sub	24(%rbx), %r15
	mov	%ah, 5(%rbx)
	movw	$0x1234, 6(%rbp)
	cmpxchg	%r8, 32(%rbx)
	pushq	40(%rbx)
	popq	48(%rbp)
	push	%r11
	pop	%r15
	mov	%fs:8, %rsi
	mov	%rsi, %gs:16
	movabs	DATA_AT + 56, %rax
	xlat
	push	%rbp
	mov	%rsp, %rbp
	push	%rdx
	leave
	mov	0xffd(%rbx), %rdi	/* in two pages */
	mov	%rdi, 0xffb(%rbx)
	addl	$5, 0xffe(%rbx)
	again	1b
	finish
	end	accesses

	/* Nothing between two lines that use them but what leaves them alone. */
	program	flags
1:	stc
	mov	(%rbx), %rax
	adc	%rax, 8(%rbx)
	mov	16(%rbx), %rdx
	mov	%rdx, 8(%rbp)
	setc	24(%rbx)
	seto	25(%rbx)
	sets	26(%rbx)
	setp	27(%rbx)
	setz	28(%rbx)
	mov	$0x7fffffff, %edx
	add	$1, %edx
	push	%rdx
	pop	%r11
	lahf
	seto	%al
	mov	%rax, 32(%rbp)
	stc
	incq	40(%rbx)
	mov	48(%rbx), %rdi
	rclq	$1, 56(%rbx)
	call	2f
	pushfq
	popq	64(%rbx)
	cmp	72(%rbx), %rdi
	mov	%rdi, 80(%rbp)
	jbe	3f
	notq	88(%rbp)
3:	lea	-1(%r14), %r14
	mov	%r14, %rcx
	jrcxz	4f
	jmp	1b
4:	finish
2:	mov	%r15, 96(%rbp)
	ret
	end	flags

	/* Neighbours, two groups of them in turns, and one that lies in two pages. */
	program	groups
1:	push	%rax
	push	%rdx
	push	%r12
	push	%r13
	mov	(%rbx), %rax
	mov	%rax, 16(%rbp)
	mov	8(%rbx), %rcx
	mov	%rcx, 24(%rbp)
	mov	16(%rbx), %rdx
	mov	%rdx, 32(%rbp)
	add	%rdx, 40(%rbp)
	mov	0xff0(%rbx), %rax
	mov	0xff8(%rbx), %rcx
	mov	0x1000(%rbx), %r11
	mov	%rax, 0xff4(%rbp)
	mov	%rcx, 0xffc(%rbp)
	mov	%r11, 0x1004(%rbp)
	pop	%r13
	pop	%r12
	pop	%rdx
	pop	%rax
	again	1b
	finish
	end	groups

	program	calls
1:	call	2f
	lea	3f(%rip), %rax
	call	*%rax
	mov	%rax, 64(%rbx)
	call	*64(%rbx)
	call	4f
	mov	(%rbx), %rax		/* left out: it changes where it returns to */
	push	%rax
	call	5f
	again	1b
	finish
2:	incq	(%rbx)
	ret
4:	addq	$3, (%rsp)
	ret
5:	mov	8(%rsp), %rdx
	ret	$8
	.org	program_calls + 0x1000
3:	mov	%r14, 8(%rbx)
	ret
	end	calls

	/* In the second round a return is all that asks whether somebody wants us: r14 counts them. */
	.macro	one_return
	call	2f
	lea	-1(%r14), %r14
	.endm
	program	returns
	mov	$2, %esi
1:	one_return
	one_return
	one_return
	one_return
	dec	%esi
	jnz	1b
	finish
2:	incq	(%rbx)
	ret
	end	returns

	/* The same of jumps that are indirect, or to another page; three times each, to be found. */
	program	jumps
	mov	$3, %esi
1:	lea	2f(%rip), %rax
	jmp	*%rax
2:	lea	-1(%r14), %r14
	lea	3f(%rip), %rcx
	mov	%rcx, 8(%rbx)
	jmp	*8(%rbx)
3:	lea	-1(%r14), %r14
	lea	5f(%rip), %rdx
	stc
	jc	4f
5:	lea	-1(%r14), %r14
	dec	%esi
	jz	6f
	lea	1b(%rip), %rax
	jmp	*%rax
6:	finish
	.org	program_jumps + 0x1000
4:	lea	-1(%r14), %r14
	jmp	*%rdx
	end	jumps

	/*
	 * A jump to where soft_jump_index() is 0: at that entry all jumps look when somebody wants us,
	 * and this one might find what it is looking for.
	 */
	program	entry_0
	lea	1f(%rip), %rax
	jmp	*%rax
	.org	program_entry_0 + 0x1000 - (CODE_AT >> 12)
1:	incq	(%rbx)
	lea	-1(%r14), %r14
	cmp	$-2, %r14
	je	2f
	jmp	*%rax
2:	finish
	end	entry_0

	/* A loop is all that asks. Its end does not: what r14 counts is how often it goes round. */
	program	loops
	mov	$3, %ecx
1:	mov	%rcx, (%rbx)
	mov	(%rbx), %rax
	lea	-1(%r14), %r14
	loop	1b
	lea	1(%r14), %r14
	mov	$3, %edx
2:	lea	-1(%r14), %r14
	dec	%edx
	jnz	2b
	lea	1(%r14), %r14
	mov	$3, %edx
3:	lea	-1(%r14), %r14
	dec	%edx
	jz	4f
	jmp	3b
4:	finish
	end	loops

	program	strings
1:	cld
	lea	0x100(%rbx), %rsi
	lea	0x200(%rbp), %rdi
	mov	$4, %ecx
	rep movsq
	mov	$3, %ecx
	stc
	rep stosl
	setc	(%rdi)
	lea	0xffd(%rbx), %rsi
	lea	0x300(%rbp), %rdi
	mov	$6, %ecx		/* from two pages */
	rep movsb
	lodsw
	stosb
	movsl
	lea	0x200(%rbp), %rdi
	mov	$9, %ecx
	repne scasb
	std
	movsb
	cld
	again	1b
	finish
	end	strings

	program	locked
1:	lock xadd %rax, (%rbx)
	lock cmpxchg %rcx, 8(%rbx)
	lock cmpxchg16b 16(%rbx)
	xchg	%rdx, 32(%rbp)
	lock btsq $5, 40(%rbx)
	lock incl 0xffe(%rbx)		/* in two pages */
	mfence
	again	1b
	finish
	end	locked

	program	vectors
	fninit
1:	movups	(%rbx), %xmm0
	addps	16(%rbx), %xmm0
	movups	%xmm0, (%rbp)
	vmovups	0xff0(%rbx), %ymm1	/* in two pages */
	vpaddq	%ymm1, %ymm1, %ymm2
	vmovups	%ymm2, 0xfe8(%rbp)
	fildl	64(%rbx)
	fldl	72(%rbx)
	faddp
	fstpl	72(%rbp)
	fildq	0xffc(%rbx)
	ucomisd	80(%rbx), %xmm0
	setp	88(%rbp)
	cvtsi2sdl 96(%rbx), %xmm3
	movq	104(%rbx), %mm0
	paddb	%mm0, %mm1
	movq	%mm1, 112(%rbp)
	emms
	stmxcsr	120(%rbp)
	ldmxcsr	120(%rbp)
	again	1b
	save_upper
	finish
	end	vectors

	/* Into a page that has code of it, into other code, and into the next instruction. */
	program	code
1:	incq	program_code + 0x800(%rip)
	incl	2f + 1(%rip)
	jmp	2f
2:	mov	$0x1000, %eax
	mov	%rax, (%rbx)
	add	%eax, 3f + 1(%rip)
3:	mov	$1, %edx
	mov	%rdx, 8(%rbx)
	again	1b
	finish
	.org	program_code + 0x1000
	end	code

	/* The silicon finds the first, the translator the others. */
	program	traps
1:	mov	$7, %eax
	mov	(%rbx), %r15
	mov	$0, %edx
	mov	$0, %ecx
	stc
	div	%ecx
	setc	8(%rbx)
	mov	(%r12), %rax
	adc	%rax, 16(%rbx)
	ud2
	seto	24(%rbx)
	mov	%rax, (%r12)
	again	1b
	finish
	end	traps

	program	system
1:	cli
	mov	(%rbx), %rax
	sti
	mov	%rax, 8(%rbx)
	pushfq
	cli
	popfq
	mov	%cr3, %rax
	mov	%rax, 16(%rbx)
	mov	%ds, %ecx
	swapgs
	mov	%gs:8, %rdx
	swapgs
	mov	%gs:8, %r11
	rdgsbase %rdi
	wrfsbase %rdi
	mov	%fs:16, %rsi
	stc
	stac
	mov	%rdi, USER_DATA
	adc	%rcx, USER_DATA + 8
	clac
	adc	%rcx, 24(%rbx)
	invlpg	(%rbx)
	rdtsc
	mov	$0, %eax
	mov	$0, %edx
	cld
	rdfsbase %r15
	again	1b
	finish
	end	system

	program	syscalls
1:	stc
	syscall
	adc	%rax, (%rbx)
	mov	%rcx, 8(%rbx)
	mov	%r11, 16(%rbx)
	again	1b
	finish
	end	syscalls

	.code32
	program	narrow
	mov	$2, %edx
1:	mov	(%ebx), %eax
	mov	%eax, 8(%ebp)
	add	%eax, 16(%ebx, %edx, 4)
	mov	%fs:4(, %edx, 4), %ecx
	mov	%ecx, %gs:8
	push	%ecx
	pushl	24(%ebx)
	pop	%esi
	pop	%edi
	pusha
	popa
	xchg	%ecx, 0xffe(%ebx)
	call	2f
	lea	0x100(%ebx), %esi
	lea	0x100(%ebp), %edi
	mov	$3, %ecx
	rep movsb
	dec	%edx
	jnz	1b
	lea	3f - 2f(%edx), %ecx
	finish
2:	incl	32(%ebx)
	ret
3:
	end	narrow
	.code64

	.section .note.GNU-stack, "", @progbits
