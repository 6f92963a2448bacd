/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kernels to boot in tests: see boot_images.h.
 */
#include "boot_images.h"

#include "board/layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <asm/processor-flags.h>
#include <elf.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define INITRD_SEED 0x77

void put(struct image *image, size_t at, u64 value, unsigned width)
{
	assert_true(at + width <= sizeof(image->bytes));
	memcpy(image->bytes + at, &value, width);
	image->len = MAX(image->len, at + width);
}

u64 get(const void *from, unsigned width)
{
	u64 value = 0;

	memcpy(&value, from, width);
	return value;
}

static u8 pattern(size_t i, u8 seed)
{
	return seed + i * 7 + (i >> 8) * 13 + 1;
}

void put_pattern(struct image *image, size_t at, size_t len, u8 seed)
{
	for (size_t i = 0; i < len; i++)
		put(image, at + i, pattern(i, seed), 1);
}

void image_bzimage(struct image *image)
{
	memset(image, 0, sizeof(*image));
	/* The real-mode part is full of code: none of it may end up in the guest's boot_params. */
	put_pattern(image, 0, BZ_SETUP_SECTS, 0xee);
	put_pattern(image, BZ_HEADER_END, BZ_OFFSET - BZ_HEADER_END, 0xdd);
	put(image, BZ_SETUP_SECTS, BZ_OFFSET / 512 - 1, 1);
	put(image, BZ_SYSSIZE, BZ_SIZE / 16, 4);
	put(image, 0x1fe, 0xaa55, 2);
	put(image, BZ_JUMP_LENGTH - 1, 0xeb, 1);
	put(image, BZ_JUMP_LENGTH, BZ_HEADER_END - BZ_MAGIC, 1);
	memcpy(image->bytes + BZ_MAGIC, "HdrS", 4);
	put(image, BZ_VERSION, 0x020f, 2);
	put(image, BZ_LOADFLAGS, 1, 1);
	put(image, BZ_CODE32_START, 0x100000, 4);
	put(image, BZ_INITRD_ADDR_MAX, 0x7fffffff, 4);
	put(image, BZ_ALIGNMENT, BZ_ALIGN, 4);
	put(image, BZ_RELOCATABLE, 1, 1);
	put(image, BZ_XLOADFLAGS, 1, 2);
	put(image, BZ_CMDLINE_SIZE, 2047, 4);
	put(image, BZ_PREF_ADDRESS, BZ_PREFERRED, 8);
	put(image, BZ_INIT_SIZE, BZ_INIT, 4);
	put_pattern(image, BZ_OFFSET, BZ_SIZE, 0x11);
}

size_t elf_phdr(bool is_64, unsigned number)
{
	return is_64 ? sizeof(Elf64_Ehdr) + number * sizeof(Elf64_Phdr)
		     : sizeof(Elf32_Ehdr) + number * sizeof(Elf32_Phdr);
}

static void put_elf64(struct image *image, u64 entry, const struct image_segment *segments,
		      unsigned count)
{
	Elf64_Ehdr header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
			     .e_type = ET_EXEC,
			     .e_machine = EM_X86_64,
			     .e_version = EV_CURRENT,
			     .e_entry = entry,
			     .e_phoff = sizeof(header),
			     .e_ehsize = sizeof(header),
			     .e_phentsize = sizeof(Elf64_Phdr),
			     .e_phnum = count};

	memcpy(image->bytes, &header, sizeof(header));
	for (unsigned i = 0; i < count; i++) {
		Elf64_Phdr phdr = {.p_type = segments[i].type,
				   .p_offset = segments[i].offset,
				   .p_vaddr = segments[i].vaddr,
				   .p_paddr = segments[i].paddr,
				   .p_filesz = segments[i].filesz,
				   .p_memsz = segments[i].memsz,
				   .p_align = 4};

		memcpy(image->bytes + elf_phdr(true, i), &phdr, sizeof(phdr));
	}
}

static void put_elf32(struct image *image, u32 entry, const struct image_segment *segments,
		      unsigned count)
{
	Elf32_Ehdr header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, EV_CURRENT},
			     .e_type = ET_EXEC,
			     .e_machine = EM_386,
			     .e_version = EV_CURRENT,
			     .e_entry = entry,
			     .e_phoff = sizeof(header),
			     .e_ehsize = sizeof(header),
			     .e_phentsize = sizeof(Elf32_Phdr),
			     .e_phnum = count};

	memcpy(image->bytes, &header, sizeof(header));
	for (unsigned i = 0; i < count; i++) {
		Elf32_Phdr phdr = {.p_type = segments[i].type,
				   .p_offset = segments[i].offset,
				   .p_vaddr = segments[i].vaddr,
				   .p_paddr = segments[i].paddr,
				   .p_filesz = segments[i].filesz,
				   .p_memsz = segments[i].memsz,
				   .p_align = 4};

		memcpy(image->bytes + elf_phdr(false, i), &phdr, sizeof(phdr));
	}
}

void image_elf(struct image *image, bool is_64, u64 entry, const struct image_segment *segments,
	       unsigned count)
{
	memset(image, 0, sizeof(*image));
	if (is_64)
		put_elf64(image, entry, segments, count);
	else
		put_elf32(image, entry, segments, count);
	image->len = elf_phdr(is_64, count);
	for (unsigned i = 0; i < count; i++)
		if (segments[i].type == PT_LOAD)
			put_pattern(image, segments[i].offset, segments[i].filesz, i);
}

size_t put_pvh_note(struct image *image, size_t at, u64 entry, unsigned width)
{
	put(image, at, 4, 4);
	put(image, at + 4, width, 4);
	put(image, at + 8, 18, 4);
	memcpy(image->bytes + at + 12, "Xen", 4);
	put(image, at + 16, entry, width);
	return 16 + width;
}

void put_multiboot(struct image *image, size_t at, u32 flags)
{
	put(image, at, 0x1badb002, 4);
	put(image, at + 4, flags, 4);
	put(image, at + 8, -(0x1badb002 + flags), 4);
}

void test_file(struct file *file, const char *what, const void *bytes, size_t len)
{
	file->fd = memfd_create(what, MFD_CLOEXEC);
	assert_true(file->fd >= 0);
	assert_int_equal(write(file->fd, bytes, len), len);
	file->name = "test.img";
	file->what = what;
	file->size = len;
}

void rig_open(struct rig *rig, const struct image *image, u64 memory, size_t initrd_len,
	      const char *command_line)
{
	static struct image initrd;

	memset(rig, 0, sizeof(*rig));
	rig->memory = memory_new(memory, &rig->problem);
	assert_non_null(rig->memory);
	test_file(&rig->kernel, "kernel", image->bytes, image->len);
	initrd.len = 0;
	put_pattern(&initrd, 0, MIN(initrd_len, sizeof(initrd.bytes)), INITRD_SEED);
	test_file(&rig->initrd, "initrd", initrd.bytes, initrd.len);
	/* A large one is a hole, for all but its beginning. */
	assert_int_equal(ftruncate(rig->initrd.fd, initrd_len), 0);
	rig->initrd.size = initrd_len;
	rig->boot = (struct boot){.memory = rig->memory,
				  .kernel = &rig->kernel,
				  .initrd = initrd_len ? &rig->initrd : NULL,
				  .command_line = command_line};
	/* What was there before must not matter. */
	memset(&rig->cpu, 0xa5, sizeof(rig->cpu));
}

int rig_load(struct rig *rig)
{
	return boot_load(&rig->boot, &rig->cpu, &rig->problem);
}

void rig_close(struct rig *rig)
{
	file_close(&rig->kernel);
	file_close(&rig->initrd);
	memory_free(rig->memory);
}

void rig_boot(struct rig *rig, const struct image *image, u64 memory, size_t initrd_len,
	      const char *command_line)
{
	rig_open(rig, image, memory, initrd_len, command_line);
	assert_string_equal((rig_load(rig), rig->problem.text), "");
}

static void assert_one_line(const char *text)
{
	assert_true(strlen(text) > 20);
	assert_null(strchr(text, '\n'));
	assert_non_null(strstr(text, "test.img"));
}

void check_refused(const struct image *image, u64 memory, size_t initrd_len,
		   const char *command_line, const char *const words[])
{
	struct rig rig;

	rig_open(&rig, image, memory, initrd_len, command_line);
	assert_true(rig_load(&rig) < 0);
	assert_one_line(rig.problem.text);
	for (unsigned i = 0; words[i]; i++)
		if (!strstr(rig.problem.text, words[i]))
			fail_msg("\"%s\" is not in: %s", words[i], rig.problem.text);
	rig_close(&rig);
}

const void *rig_at(const struct rig *rig, u64 gpa, u64 len)
{
	const void *at = memory_at(rig->memory, gpa, len);

	assert_non_null(at);
	return at;
}

u64 rig_get(const struct rig *rig, u64 gpa, unsigned width)
{
	return get(rig_at(rig, gpa, width), width);
}

void assert_pattern(const struct rig *rig, u64 gpa, size_t len, u8 seed)
{
	const u8 *at = rig_at(rig, gpa, len);

	for (size_t i = 0; i < len; i++)
		if (at[i] != pattern(i, seed))
			fail_msg("byte %zu from 0x%lx is 0x%x", i, (unsigned long)gpa, at[i]);
}

void assert_zero(const struct rig *rig, u64 gpa, size_t len)
{
	const u8 *at = rig_at(rig, gpa, len);

	for (size_t i = 0; i < len; i++)
		if (at[i])
			fail_msg("byte %zu from 0x%lx is 0x%x", i, (unsigned long)gpa, at[i]);
}

/* Load a selector as a CPU would, from the table in memory: Intel SDM 3A, "Segment Descriptors". */
static struct segment look_up(const struct rig *rig, u16 selector)
{
	u64 raw = rig_get(rig, rig->cpu.gdt.base + selector, 8);
	struct segment segment = {
		.selector = selector,
		.base = (raw >> 16 & 0xffffff) | (raw >> 56) << 24,
		.limit = (raw & 0xffff) | (raw >> 48 & 0xf) << 16,
		.type = raw >> 40 & 0xf,
		.s = raw >> 44 & 1,
		.dpl = raw >> 45 & 3,
		.present = raw >> 47 & 1,
		.avl = raw >> 52 & 1,
		.l = raw >> 53 & 1,
		.db = raw >> 54 & 1,
		.g = raw >> 55 & 1,
	};

	assert_true(selector + 7u <= rig->cpu.gdt.limit);
	if (segment.g)
		segment.limit = segment.limit << 12 | 0xfff;
	return segment;
}

static void assert_segment(const struct rig *rig, const struct segment *is, u16 selector, u8 type,
			   bool l, bool db)
{
	struct segment table = look_up(rig, selector);

	assert_int_equal(is->selector, selector);
	assert_int_equal(is->type, type);
	assert_int_equal(is->l, l);
	assert_int_equal(is->db, db);
	assert_int_equal(is->dpl, 0);
	assert_true(is->present);
	assert_int_equal(table.base, is->base);
	assert_int_equal(table.limit, is->limit);
	assert_int_equal(table.type, is->type);
	assert_int_equal(table.s, is->s);
	assert_int_equal(table.dpl, is->dpl);
	assert_int_equal(table.present, is->present);
	assert_int_equal(table.l, is->l);
	assert_int_equal(table.db, is->db);
	assert_int_equal(table.g, is->g);
}

/* A page walk as the CPU does it: Intel SDM 3A, "4-Level Paging", with 2 MiB pages. */
static u64 walk(const struct rig *rig, u64 address)
{
	u64 entry = rig->cpu.cr3;

	for (unsigned shift = 39; shift >= 21; shift -= 9) {
		entry = rig_get(rig, (entry & ~0xfffull) + (address >> shift & 511) * 8, 8);
		assert_int_equal(entry & 3, 3);
		assert_int_equal(!!(entry & 0x80), shift == 21);
	}
	return (entry & ~0x1fffffull) | (address & 0x1fffff);
}

void assert_flat(const struct rig *rig, bool is_64)
{
	const struct cpu_state *cpu = &rig->cpu;
	const struct segment *data[] = {&cpu->ds, &cpu->es, &cpu->fs, &cpu->gs, &cpu->ss};

	assert_true(cpu->gdt.base >= LAYOUT_BOOT);
	assert_true(cpu->gdt.base + cpu->gdt.limit < LAYOUT_BOOT_END);
	/*
	 * boot.rst: __BOOT_CS is 0x10 and execute/read, __BOOT_DS is 0x18 and read/write. Both
	 * accessed.
	 */
	assert_segment(rig, &cpu->cs, 0x10, 11, is_64, !is_64);
	assert_int_equal(cpu->cs.base, 0);
	assert_int_equal(cpu->cs.limit, UINT32_MAX);
	for (unsigned i = 0; i < ARRAY_SIZE(data); i++) {
		assert_segment(rig, data[i], 0x18, 3, false, true);
		assert_int_equal(data[i]->base, 0);
		assert_int_equal(data[i]->limit, UINT32_MAX);
	}
	/*
	 * A busy TSS of at least 0x67 bytes, byte-granular: the least that VM entry on Intel
	 * accepts.
	 */
	assert_segment(rig, &cpu->tr, 0x20, 11, false, false);
	assert_false(cpu->tr.s);
	assert_int_equal(cpu->tr.limit, 0x67);
	assert_zero(rig, cpu->tr.base, cpu->tr.limit + 1);
	assert_false(cpu->ldt.present);
	assert_int_equal(cpu->rflags, 2);
	assert_true(cpu->cr0 & X86_CR0_PE);
	assert_int_equal(!!(cpu->cr0 & X86_CR0_PG), is_64);
	assert_int_equal(cpu->cr4, is_64 ? X86_CR4_PAE : 0);
	assert_int_equal(cpu->efer, is_64 ? 0x500 : 0);
	if (!is_64)
		return;
	assert_true(cpu->cr0 & X86_CR0_WP);
	for (u64 address = 0x123; address < GiB(4); address += MiB(2))
		assert_int_equal(walk(rig, address), address);
}

void rig_load_anything(struct rig *rig)
{
	if (rig_load(rig)) {
		assert_one_line(rig->problem.text);
		return;
	}
	assert_string_equal(rig->problem.text, "");
	assert_true(rig->cpu.rip >= LAYOUT_KERNEL);
	assert_true(rig->cpu.rip < rig->memory->low);
}

static void load_copy(const struct image *image)
{
	struct rig rig;

	rig_open(&rig, image, MiB(64), 5000, "quiet");
	rig_load_anything(&rig);
	rig_close(&rig);
}

void assert_survives_extremes(const struct image *image, size_t from, size_t to)
{
	static struct image spoilt;

	for (unsigned width = 1; width <= 8; width *= 2) {
		u64 max = UINT64_MAX >> (64 - width * 8);
		const u64 extremes[] = {0, 1, max, max - 1, (max >> 1) + 1, max >> 1};

		for (size_t at = from; at + width <= to; at++) {
			for (unsigned i = 0; i < ARRAY_SIZE(extremes); i++) {
				spoilt = *image;
				put(&spoilt, at, extremes[i], width);
				load_copy(&spoilt);
			}
		}
	}
}

void assert_no_part_boots(const struct image *image)
{
	static struct image part;
	struct rig rig;

	part = *image;
	for (part.len = 1; part.len < image->len; part.len++) {
		rig_open(&rig, &part, MiB(64), 0, "");
		if (!rig_load(&rig))
			fail_msg("the first %zu of %zu bytes were loaded", part.len, image->len);
		assert_one_line(rig.problem.text);
		rig_close(&rig);
	}
}
