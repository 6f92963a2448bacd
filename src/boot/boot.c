/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Putting a kernel into memory: see boot.h.
 *
 * Here the file is looked at and told apart (LOAD-4), and here are the steps
 * that every kind of kernel needs: a place for the initrd, the command line,
 * the map of memory, and the arithmetic of what fits where. What is special to
 * a format is in the file of that name. The Launcher calls this before the
 * first instruction, and again for each reboot.
 *
 * Tour 2.210
 */
#include "boot/internal.h"
#include "host/log.h"

#include <asm/e820.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* How much of a long file name is shown, so that the reason still has room. */
#define NAME_SHOWN 200

int refuse(const struct file *file, struct problem *why, int err, const char *format, ...)
{
	char reason[sizeof(why->text) - NAME_SHOWN - 32];
	va_list args;

	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	return problem(why, err, "the %s %.*s %s", file->what, NAME_SHOWN, file->name, reason);
}

static int read_head(const struct file *kernel, struct kernel_head *head, struct problem *why)
{
	head->len = MIN(kernel->size, sizeof(head->bytes));
	return file_read(kernel, 0, head->bytes, head->len, why);
}

/*
 * People hand us all sorts of files. Those that are seen most often get an
 * answer that says what they are: the figures are the formats' own.
 */
static const struct stranger {
	unsigned offset;
	const char *magic;
	const char *is;
} strangers[] = {
	/*
	 * linux: Documentation/arch/arm64/booting.rst,
	 * Documentation/arch/riscv/boot-image-header.rst
	 */
	{0x38, "ARM\x64", "is a kernel for another processor (ARM64)"},
	{0x38, "RSC\x05", "is a kernel for another processor (RISC-V)"},
	{0x24, "\x18\x28\x6f\x01", "is a kernel for another processor (ARM)"},
	{0x04, "zimg",
	 "is a kernel for another processor (an EFI zboot image, which x86 does not use)"},
	{0, "\x1f\x8b", "is compressed with gzip: unpack it first"},
	{0, "\xfd\x37zXZ", "is compressed with xz: unpack it first"},
	{0, "\x28\xb5\x2f\xfd", "is compressed with zstd: unpack it first"},
	{0, "BZh", "is compressed with bzip2: unpack it first"},
	{0, "070701", "is a cpio archive, perhaps an initrd: that goes with --initrd"},
};

static bool is_text(const struct kernel_head *head)
{
	static const char control[] = {'\t', '\n', '\r', '\f'};

	for (u64 i = 0; i < head->len; i++)
		if (head->bytes[i] < ' ' && !memchr(control, head->bytes[i], sizeof(control)))
			return false;
	return true;
}

static int refuse_stranger(const struct file *kernel, const struct kernel_head *head,
			   struct problem *why)
{
	const char *is = "is not a kernel";

	for (unsigned i = 0; i < ARRAY_SIZE(strangers); i++) {
		size_t len = strlen(strangers[i].magic);

		if (head->len >= strangers[i].offset + len &&
		    !memcmp(head->bytes + strangers[i].offset, strangers[i].magic, len))
			return refuse(kernel, why, ENOEXEC, "%s", strangers[i].is);
	}
	if (is_text(head))
		is = "is a text file, not a kernel";
	return refuse(kernel, why, ENOEXEC,
		      "%s: expected an x86 bzImage (\"HdrS\" at byte 0x202) or an ELF file", is);
}

/*
 * LOAD-4: the order matters. An ELF kernel may be Multiboot and carry a PVH note as well.
 *
 * Tour 2.211: Which kind of kernel is it?
 */
static int recognise(const struct file *kernel, const struct kernel_head *head,
		     enum kernel_format *format, struct problem *why)
{
	struct elf elf;
	u64 entry;
	int ret;

	if (head->len < SELFMAG || memcmp(head->bytes, ELFMAG, SELFMAG)) {
		if (!bzimage_recognise(head))
			return refuse_stranger(kernel, head, why);
		*format = KERNEL_BZIMAGE;
		return 0;
	}
	ret = elf_check_head(kernel, head, why);
	if (ret)
		return ret;
	if (multiboot_recognise(head)) {
		*format = KERNEL_ELF_MULTIBOOT;
		return 0;
	}
	ret = elf_read(&elf, kernel, head, why);
	if (ret)
		return ret;
	ret = pvh_recognise(&elf, &entry, why);
	*format = ret > 0 ? KERNEL_ELF_PVH : KERNEL_ELF_LINUX;
	elf_free(&elf);
	return MIN(ret, 0);
}

int boot_recognise(const struct file *kernel, enum kernel_format *format, struct problem *why)
{
	struct kernel_head head;
	int err = read_head(kernel, &head, why);

	return err ? err : recognise(kernel, &head, format, why);
}

/* MiB as the user gives them: what is needed is rounded up. */
static u64 in_mib(u64 bytes)
{
	return (bytes >> 20) + !!(bytes & (MiB(1) - 1));
}

/*
 * LOAD-5: as high as it may be. Kernels free the initrd when they have read it,
 * and memory freed at the top is in nobody's way; also, a kernel that unpacks
 * itself upwards from its place does not run into it.
 */
int load_locate_initrd(struct load *load, u64 max)
{
	const struct file *initrd = load->boot->initrd;
	u64 low = load->boot->memory->low;
	u64 top = max < low ? max + 1 : low;

	load->initrd = 0;
	load->initrd_size = 0;
	if (!initrd)
		return 0;
	if (initrd->size > top || align_down(top - initrd->size, PAGE_SIZE) < LAYOUT_KERNEL)
		return refuse(initrd, load->problem, ENOMEM,
			      "does not fit: its %" PRIu64 " bytes (%" PRIu64
			      " MiB) must lie below 0x%" PRIx64 ", and the guest has %" PRIu64
			      " MiB of memory there",
			      initrd->size, in_mib(initrd->size), top, top >> 20);
	load->initrd = align_down(top - initrd->size, PAGE_SIZE);
	load->initrd_size = initrd->size;
	return 0;
}

int load_claim(const struct load *load, const char *what, u64 start, u64 size)
{
	const struct boot *boot = load->boot;
	u64 low = boot->memory->low, end;

	if (!size)
		return 0;
	if (start < LAYOUT_KERNEL)
		return refuse(boot->kernel, load->problem, ENOEXEC,
			      "wants its %s at 0x%" PRIx64
			      ", but the memory below 0x%x is not free",
			      what, start, LAYOUT_KERNEL);
	if (__builtin_add_overflow(start, size, &end))
		return refuse(boot->kernel, load->problem, ENOEXEC,
			      "has a %s of 0x%" PRIx64 " bytes at 0x%" PRIx64
			      ", which wraps past the end of all addresses",
			      what, size, start);
	if (end > low)
		return refuse(boot->kernel, load->problem, ENOMEM,
			      "does not fit: its %s needs memory from 0x%" PRIx64 " to 0x%" PRIx64
			      " (%" PRIu64 " MiB), and the guest has %" PRIu64
			      " MiB (below 4 GiB): give it more",
			      what, start, end - 1, in_mib(end), low >> 20);
	if (start < load->initrd + load->initrd_size && load->initrd < end)
		return refuse(boot->kernel, load->problem, ENOMEM,
			      "does not fit: its %s needs memory from 0x%" PRIx64 " to 0x%" PRIx64
			      ", and the initrd of %" PRIu64 " bytes begins at 0x%" PRIx64
			      ": give the guest more memory than %" PRIu64 " MiB",
			      what, start, end - 1, load->initrd_size, load->initrd, low >> 20);
	return 0;
}

/*
 * Under --verbose: was it mapped (shared with other guests) or read? Its first whole page can tell.
 */
static const char *how_placed(const struct load *load, u64 gpa, u64 len)
{
	u64 page = align_up(gpa, PAGE_SIZE);
	const struct memory *memory = load->boot->memory;

	if (page - gpa < len && memory_file_at(memory, memory->base + page))
		return "mapped";
	return "read";
}

int load_place(const struct load *load, const char *what, u64 gpa, u64 offset, u64 len)
{
	const struct file *kernel = load->boot->kernel;
	int err;

	if (!len)
		return 0;
	err = memory_place_file(load->boot->memory, gpa, kernel, offset, len, load->problem);
	if (err)
		return err;
	log_verbose("kernel %s: %s at 0x%" PRIx64 "-0x%" PRIx64 ", %s from byte 0x%" PRIx64,
		    kernel->name, what, gpa, gpa + len - 1, how_placed(load, gpa, len), offset);
	return 0;
}

static int place_initrd(const struct load *load)
{
	const struct file *initrd = load->boot->initrd;
	int err;

	if (!initrd)
		return 0;
	err = memory_place_file(load->boot->memory, load->initrd, initrd, 0, load->initrd_size,
				load->problem);
	if (err)
		return err;
	log_verbose("initrd %s: 0x%" PRIx64 "-0x%" PRIx64 ", %s", initrd->name, load->initrd,
		    load->initrd + load->initrd_size - 1,
		    how_placed(load, load->initrd, load->initrd_size));
	return 0;
}

static int place_command_line(const struct load *load, u64 max)
{
	const char *line = load->boot->command_line;
	u64 len = strlen(line);

	if (max > BOOT_COMMAND_LINE_MAX)
		max = BOOT_COMMAND_LINE_MAX;
	if (len > max)
		return refuse(load->boot->kernel, load->problem, E2BIG,
			      "takes a command line of at most %" PRIu64
			      " bytes, and this one has %" PRIu64,
			      max, len);
	memcpy(boot_area(load, BOOT_COMMAND_LINE, len + 1), line, len + 1);
	log_verbose("command line: %s", line);
	return 0;
}

int load_place_rest(const struct load *load, u64 max)
{
	int err = place_command_line(load, max);

	return err ? err : place_initrd(load);
}

void *boot_area(const struct load *load, u64 gpa, u64 len)
{
	return memory_at(load->boot->memory, gpa, len);
}

/*
 * LOAD-7. Page 0 and what we placed above it are reserved; from there to the
 * firmware's area is free, for the code that starts further CPUs; the firmware's
 * area, ACPI tables included, is not RAM to a kernel.
 *
 * Tour 2.212: The map that the guest gets
 */
unsigned boot_memory_map(const struct memory *memory, struct boot_e820_entry map[MEMORY_MAP_MAX])
{
	const struct boot_e820_entry entries[MEMORY_MAP_MAX] = {
		{0, LAYOUT_BOOT_END, E820_RESERVED},
		{LAYOUT_BOOT_END, LAYOUT_EBDA - LAYOUT_BOOT_END, E820_RAM},
		{LAYOUT_EBDA, LAYOUT_KERNEL - LAYOUT_EBDA, E820_RESERVED},
		{LAYOUT_KERNEL, memory->low - LAYOUT_KERNEL, E820_RAM},
		{MEMORY_HIGH_BASE, memory->high, E820_RAM},
	};

	memcpy(map, entries, sizeof(entries));
	return memory->high ? MEMORY_MAP_MAX : MEMORY_MAP_MAX - 1;
}

static void log_memory_map(const struct memory *memory)
{
	struct boot_e820_entry map[MEMORY_MAP_MAX];
	unsigned count = boot_memory_map(memory, map);

	for (unsigned i = 0; i < count; i++) {
		u64 start = map[i].addr, size = map[i].size;

		log_verbose("memory: 0x%" PRIx64 "-0x%" PRIx64 " %s", start, start + size - 1,
			    map[i].type == E820_RAM ? "RAM" : "reserved");
	}
}

/*
 * From a file to a first CPU that only has to be let go.
 *
 * Tour 2.213: All of it, in one function
 */
int boot_load(const struct boot *boot, struct cpu_state *cpu, struct problem *why)
{
	static int (*const loaders[])(struct load *, struct cpu_state *) = {
		[KERNEL_BZIMAGE] = bzimage_load,
		[KERNEL_ELF_LINUX] = linux_elf_load,
		[KERNEL_ELF_PVH] = pvh_load,
		[KERNEL_ELF_MULTIBOOT] = multiboot_load,
	};
	struct kernel_head head;
	struct load load = {.boot = boot, .head = &head, .problem = why};
	enum kernel_format format = KERNEL_BZIMAGE;
	int err;

	if (boot->memory->low < MEMORY_MIN)
		return problem(why, ENOMEM,
			       "the guest's memory of %" PRIu64
			       " KiB is too small: at least %" PRIu64 " MiB are needed",
			       boot->memory->low >> 10, MEMORY_MIN >> 20);
	err = read_head(boot->kernel, &head, why);
	if (!err)
		err = recognise(boot->kernel, &head, &format, why);
	if (err)
		return err;
	log_memory_map(boot->memory);
	return loaders[format](&load, cpu);
}
