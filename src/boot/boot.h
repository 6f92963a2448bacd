/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Putting a kernel into memory, ready to run.
 *
 * Four kinds of kernel, recognised from the file itself: a Linux bzImage; an
 * ELF kernel that follows the Linux boot protocol ("vmlinux"); one with a PVH
 * entry note; one with a Multiboot 1 header. Files are hostile: truncated,
 * overlapping, absurd. Each way to be wrong has its own line for the user.
 *
 * Tour 2.200: A kernel goes into memory
 */
#ifndef BOOT_BOOT_H
#define BOOT_BOOT_H

#include "engine/engine.h"
#include "host/file.h"
#include "host/memory.h"

enum kernel_format { KERNEL_BZIMAGE, KERNEL_ELF_LINUX, KERNEL_ELF_PVH, KERNEL_ELF_MULTIBOOT };

struct boot {
	struct memory *memory; /* cleared, ACPI tables in place */
	const struct file *kernel;
	const struct file *initrd; /* NULL: none */
	const char *command_line;
};

/* What kind of kernel is it? -errno with *problem filled (-ENOEXEC: none of ours). */
int boot_recognise(const struct file *kernel, enum kernel_format *format, struct problem *problem);

/*
 * Load it all and say how the first vCPU starts. Under --verbose, says what went where. -errno with
 * *problem filled.
 */
int boot_load(const struct boot *boot, struct cpu_state *cpu, struct problem *problem);

#endif
