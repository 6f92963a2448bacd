/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz the kernel loaders. The input is a kernel file, byte for byte; and then it
 * is a list of changes to kernels that were good until now, because it takes a
 * long time to type a bzImage by chance.
 *
 * Whatever is in the file, boot_load() either says in words what is wrong, or
 * leaves a guest that can be started: the first instruction is in its RAM, where
 * kernels may be, and the initrd has not been written over. The sanitizers see to
 * the rest.
 */
#include "board/layout.h"
#include "boot/boot.h"

#include <asm/bootparam.h>
#include <elf.h>
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

/* The initrd is on a page of its own somewhere, and complete. */
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

static void try(const void *bytes, size_t size)
{
	static u8 initrd_bytes[INITRD_SIZE];
	struct problem why = {""};
	struct cpu_state cpu;
	struct memory *memory = memory_new(MEMORY, &why);
	struct file kernel = file_of("kernel", bytes, size), initrd;
	struct boot boot = {.memory = memory,
			    .kernel = &kernel,
			    .initrd = &initrd,
			    .command_line = "console=hvc0"};

	must(memory);
	memset(initrd_bytes, INITRD_BYTE, sizeof(initrd_bytes));
	initrd = file_of("initrd", initrd_bytes, sizeof(initrd_bytes));
	if (boot_load(&boot, &cpu, &why))
		must(why.text[0] && !strchr(why.text, '\n'));
	else
		check(memory, &cpu);
	file_close(&kernel);
	file_close(&initrd);
	memory_free(memory);
}

/* Good kernels of two pages: what is in them does not matter, but that they have it all. */
#define GOOD_SIZE  0x2000
#define GOOD_ENTRY 0x200000
#define GOOD_EXTRA 0x400 /* a note, or a Multiboot header */

static void good_bzimage(u8 *bytes)
{
	struct setup_header header = {
		.setup_sects = 1,
		.syssize = (GOOD_SIZE - 0x400) / 16,
		.jump = 0x6aeb,
		.header = 0x53726448,
		.version = 0x020f,
		.loadflags = LOADED_HIGH,
		.code32_start = 0x100000,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 0x200000,
		.relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64,
		.cmdline_size = 2047,
		.pref_address = 0x1000000,
		.init_size = 0x800000,
	};

	memcpy(bytes + 0x1f1, &header, sizeof(header));
}

static void good_elf64(u8 *bytes)
{
	const u32 note[] = {4, 8, 18, 0x006e6558, GOOD_ENTRY, 0};
	const Elf64_Ehdr header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB},
				   .e_type = ET_EXEC,
				   .e_machine = EM_X86_64,
				   .e_entry = GOOD_ENTRY,
				   .e_phoff = sizeof(header),
				   .e_phentsize = sizeof(Elf64_Phdr),
				   .e_phnum = 2};
	const Elf64_Phdr load = {.p_type = PT_LOAD,
				 .p_vaddr = GOOD_ENTRY,
				 .p_paddr = GOOD_ENTRY,
				 .p_filesz = GOOD_SIZE,
				 .p_memsz = 2 * GOOD_SIZE};
	const Elf64_Phdr notes = {
		.p_type = PT_NOTE, .p_offset = GOOD_EXTRA, .p_filesz = sizeof(note)};

	memcpy(bytes, &header, sizeof(header));
	memcpy(bytes + sizeof(header), &load, sizeof(load));
	memcpy(bytes + sizeof(header) + sizeof(load), &notes, sizeof(notes));
	memcpy(bytes + GOOD_EXTRA, note, sizeof(note));
}

static void good_elf32(u8 *bytes)
{
	const Elf32_Ehdr header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB},
				   .e_type = ET_EXEC,
				   .e_machine = EM_386,
				   .e_entry = GOOD_ENTRY,
				   .e_phoff = sizeof(header),
				   .e_phentsize = sizeof(Elf32_Phdr),
				   .e_phnum = 1};
	const Elf32_Phdr load = {.p_type = PT_LOAD,
				 .p_vaddr = GOOD_ENTRY,
				 .p_paddr = GOOD_ENTRY,
				 .p_filesz = GOOD_SIZE,
				 .p_memsz = 2 * GOOD_SIZE};

	memcpy(bytes, &header, sizeof(header));
	memcpy(bytes + sizeof(header), &load, sizeof(load));
}

/* The sum of the first three words must be 0: changes to the flags are kept from being in vain. */
static void good_multiboot(u8 *bytes, u8 flags, u8 more_flags)
{
	u32 wants = flags | (u32)more_flags << 16;
	const u32 header[] = {0x1badb002, wants,      -(0x1badb002 + wants),
			      GOOD_ENTRY, GOOD_ENTRY, GOOD_ENTRY + 0x800,
			      GOOD_ENTRY, GOOD_ENTRY};

	good_elf32(bytes);
	memcpy(bytes + GOOD_EXTRA, header, sizeof(header));
}

/*
 * Three bytes are one change: where, and to what. The rest of the input, if it is odd, cuts the
 * file short.
 */
static void try_changed(u8 *bytes, const u8 *changes, size_t size)
{
	size_t len = GOOD_SIZE;

	for (; size >= 3; changes += 3, size -= 3)
		bytes[(changes[0] | changes[1] << 8) % GOOD_SIZE] = changes[2];
	if (size == 1)
		len -= changes[0];
	try(bytes, len);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static u8 bytes[GOOD_SIZE];

	try(data, size);
	if (size < 3)
		return 0;
	memset(bytes, 0, sizeof(bytes));
	switch (data[0] % 4) {
	case 0:
		good_bzimage(bytes);
		break;
	case 1:
		good_elf64(bytes);
		break;
	case 2:
		good_elf32(bytes);
		break;
	case 3:
		good_multiboot(bytes, data[1], data[2]);
		break;
	}
	try_changed(bytes, data + 3, size - 3);
	return 0;
}
