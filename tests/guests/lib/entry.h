/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the assembly files share, and the few of those figures that C needs too.
 */
#ifndef LIB_ENTRY_H
#define LIB_ENTRY_H

/* How the guest was entered: the first word of struct entry. */
#define ENTERED_BY_PVH	     1
#define ENTERED_BY_MULTIBOOT 2
#define ENTERED_BY_LINUX64   3
#define ENTERED_BY_LINUX32   4

/* Segments of our GDT. */
#define SEGMENT_CODE64 0x08
#define SEGMENT_DATA   0x10
#define SEGMENT_CODE32 0x18

#define STACK_SIZE 16384

/* What is written to the debug exit: the launcher's status is twice that plus one, 33 or 35. */
#define EXIT_SUCCESS 0x10
#define EXIT_FAILURE 0x11

/* SLP_TYP in bits 2 to 4, SLP_EN in bit 5 (ACPI: Sleep Control Register). */
#define SLEEP_S5 ((ACPI_S5_TYPE << 2) | (1 << 5))

#ifdef __ASSEMBLER__

/*
 * "I can be entered in 32-bit mode, here": an ELF note of Xen's, type 18
 * (XEN_ELFNOTE_PHYS32_ENTRY), that made it into other hypervisors as PVH.
 */
.macro	PVH_NOTE address
	.pushsection .note.pvh, "a", @note
	.balign	4
	.long	4, 4, 18
	.asciz	"Xen"
	.long	\address
	.popsection
.endm

/* Save what the loader left in the registers. 32-bit code; changes %eax. */
.macro	SAVE_ENTRY how
	mov	%eax, entry_state + 4
	movl	$\how, entry_state
	mov	%ebx, entry_state + 8
	mov	%esi, entry_state + 12
	mov	%edi, entry_state + 16
	mov	%ebp, entry_state + 20
	mov	%cr0, %eax
	mov	%eax, entry_state + 24
	mov	%cr4, %eax
	mov	%eax, entry_state + 28
	mov	$stack_top, %esp
	pushf
	pop	%eax
	mov	%eax, entry_state + 32
	mov	%cs, entry_state + 36
	mov	%ds, entry_state + 38
	mov	%es, entry_state + 40
	mov	%ss, entry_state + 42
.endm

#endif
#endif
