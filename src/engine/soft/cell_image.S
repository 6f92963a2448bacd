/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stub, as a file: what cell.c executes. The Makefile links it.
 *
 * Tour 6.1060
 */
	.section .rodata
	.balign 16
	.globl cell_image, cell_image_end
cell_image:
	.incbin "engine/soft/cell_stub.elf"
cell_image_end:
	.section .note.GNU-stack, "", @progbits
