/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz the kernel loaders: the input is the kernel file, byte for byte.
 *
 * Whatever is in it, boot_load() either says in words what is wrong, or leaves a
 * guest that can be started: the first instruction is in its RAM, where kernels
 * may be, and the initrd has not been written over. The sanitizers see to the rest.
 */
#include "board/layout.h"
#include "boot/boot.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEMORY	    MiB(64)
#define INITRD_SIZE 9001
#define INITRD_BYTE 0xa7

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static struct file file_of(const char *what, const void *bytes, size_t size)
{
	struct file file = {
		.fd = memfd_create(what, MFD_CLOEXEC), .name = what, .what = what, .size = size};

	must(file.fd >= 0 && write(file.fd, bytes, size) == (ssize_t)size);
	return file;
}

/* The initrd is where it was put, page-aligned, and complete: count its bytes in all of RAM that may have it. */
static void check_initrd(const struct memory *memory)
{
	for (u64 gpa = memory->low - align_up(INITRD_SIZE, PAGE_SIZE); gpa >= LAYOUT_KERNEL;
	     gpa -= PAGE_SIZE) {
		const u8 *at = memory_at(memory, gpa, INITRD_SIZE);

		if (at[0] == INITRD_BYTE && !memcmp(at, at + 1, INITRD_SIZE - 1))
			return;
	}
	abort();
}

static void check(const struct memory *memory, const struct cpu_state *cpu)
{
	must(cpu->rip >= LAYOUT_KERNEL && cpu->rip < memory->low);
	must(cpu->cs.present && cpu->tr.present && cpu->tr.type == 11);
	must(memory_at(memory, cpu->gdt.base, cpu->gdt.limit));
	check_initrd(memory);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static u8 initrd_bytes[INITRD_SIZE];
	struct problem why = {""};
	struct cpu_state cpu;
	struct memory *memory = memory_new(MEMORY, &why);
	struct file kernel, initrd;
	struct boot boot = {.memory = memory,
			    .kernel = &kernel,
			    .initrd = &initrd,
			    .command_line = "console=hvc0"};

	must(memory);
	memset(initrd_bytes, INITRD_BYTE, sizeof(initrd_bytes));
	kernel = file_of("kernel", data, size);
	initrd = file_of("initrd", initrd_bytes, sizeof(initrd_bytes));
	if (boot_load(&boot, &cpu, &why))
		must(why.text[0] && !strchr(why.text, '\n'));
	else
		check(memory, &cpu);
	file_close(&kernel);
	file_close(&initrd);
	memory_free(memory);
	return 0;
}
