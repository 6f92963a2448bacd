/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ELF files: reading their headers, and putting their segments where they want
 * to be (LOAD-2). Both word sizes are turned into one kind of segment at the
 * door, so that the rest is written once.
 *
 * Also here: the plainest of ELF kernels, a Linux "vmlinux" that is started by
 * the Linux boot protocol. PVH and Multiboot kernels have files of their own.
 *
 * Tour 2.250: ELF: the kernel as it is linked
 */
#include "boot/internal.h"
#include "host/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* LOAD-2: all program headers together take at most this many bytes. */
#define PROGRAM_HEADERS_MAX 65536

/*
 * Notes of a kernel take a few hundred bytes. Somebody who brings more than this is up to no good.
 */
#define NOTES_MAX MiB(1)

#ifndef EM_LOONGARCH
#define EM_LOONGARCH 258 /* too young for every <elf.h> */
#endif

/* Those that people are likely to have lying about. */
static const char *machine_name(unsigned machine)
{
	switch (machine) {
	case EM_AARCH64:
		return "ARM64";
	case EM_ARM:
		return "ARM";
	case EM_RISCV:
		return "RISC-V";
	case EM_PPC:
	case EM_PPC64:
		return "PowerPC";
	case EM_S390:
		return "S/390";
	case EM_MIPS:
		return "MIPS";
	case EM_IA_64:
		return "Itanium";
	case EM_LOONGARCH:
		return "LoongArch";
	default:
		return "an ELF machine we have no name for";
	}
}

/* Class and machine must agree: x86-64 in a 32-bit file is the x32 ABI, and no kernel. */
static bool fits_class(unsigned class, unsigned machine)
{
	return class == ELFCLASS64 ? machine == EM_X86_64 : machine == EM_386;
}

int elf_check_head(const struct file *kernel, const struct kernel_head *head, struct problem *why)
{
	Elf32_Ehdr start; /* up to e_version both classes agree */
	size_t need;

	if (head->len < sizeof(start))
		return refuse(kernel, why, ENOEXEC, "is truncated: its ELF header is cut off");
	memcpy(&start, head->bytes, sizeof(start));
	if (start.e_ident[EI_CLASS] != ELFCLASS32 && start.e_ident[EI_CLASS] != ELFCLASS64)
		return refuse(kernel, why, ENOEXEC, "is an ELF file of unknown class %u",
			      start.e_ident[EI_CLASS]);
	if (start.e_ident[EI_DATA] == ELFDATA2MSB)
		return refuse(kernel, why, ENOEXEC,
			      "is a kernel for another processor (a big-endian one)");
	if (start.e_ident[EI_DATA] != ELFDATA2LSB)
		return refuse(kernel, why, ENOEXEC, "is an ELF file of unknown byte order %u",
			      start.e_ident[EI_DATA]);
	need = start.e_ident[EI_CLASS] == ELFCLASS64 ? sizeof(Elf64_Ehdr) : sizeof(Elf32_Ehdr);
	if (head->len < need)
		return refuse(kernel, why, ENOEXEC, "is truncated: its ELF header is cut off");
	if (start.e_machine != EM_386 && start.e_machine != EM_X86_64)
		return refuse(kernel, why, ENOEXEC,
			      "is a kernel for another processor (%s, e_machine %u): expected x86",
			      machine_name(start.e_machine), start.e_machine);
	if (!fits_class(start.e_ident[EI_CLASS], start.e_machine))
		return refuse(
			kernel, why, ENOEXEC,
			"is a %s-bit ELF file for e_machine %u: expected 32 bits with %u (i386) "
			"or 64 bits with %u (x86-64)",
			start.e_ident[EI_CLASS] == ELFCLASS64 ? "64" : "32", start.e_machine,
			EM_386, EM_X86_64);
	if (start.e_type == ET_DYN)
		return refuse(
			kernel, why, ENOEXEC,
			"is a program or library for any address (ELF type %u), not a kernel: "
			"those are linked to fixed ones (%u)",
			ET_DYN, ET_EXEC);
	if (start.e_type != ET_EXEC)
		return refuse(
			kernel, why, ENOEXEC,
			"is an ELF file of type %u, not an executable at fixed addresses (%u)",
			start.e_type, ET_EXEC);
	return 0;
}

static Elf64_Ehdr widen_header(const struct kernel_head *head)
{
	Elf32_Ehdr narrow;
	Elf64_Ehdr wide;

	if (head->bytes[EI_CLASS] == ELFCLASS64) {
		memcpy(&wide, head->bytes, sizeof(wide));
		return wide;
	}
	memcpy(&narrow, head->bytes, sizeof(narrow));
	return (Elf64_Ehdr){
		.e_entry = narrow.e_entry,
		.e_phoff = narrow.e_phoff,
		.e_phentsize = narrow.e_phentsize,
		.e_phnum = narrow.e_phnum,
		.e_shoff = narrow.e_shoff,
		.e_shentsize = narrow.e_shentsize,
		.e_shnum = narrow.e_shnum,
	};
}

static struct elf_segment widen_segment(const void *header, bool is_64)
{
	const Elf64_Phdr *wide = header;
	const Elf32_Phdr *narrow = header;

	if (is_64)
		return (struct elf_segment){.type = wide->p_type,
					    .offset = wide->p_offset,
					    .filesz = wide->p_filesz,
					    .vaddr = wide->p_vaddr,
					    .paddr = wide->p_paddr,
					    .memsz = wide->p_memsz,
					    .align = wide->p_align};
	return (struct elf_segment){.type = narrow->p_type,
				    .offset = narrow->p_offset,
				    .filesz = narrow->p_filesz,
				    .vaddr = narrow->p_vaddr,
				    .paddr = narrow->p_paddr,
				    .memsz = narrow->p_memsz,
				    .align = narrow->p_align};
}

static bool inside_file(const struct file *kernel, u64 offset, u64 len)
{
	return offset <= kernel->size && len <= kernel->size - offset;
}

static int check_header(const struct file *kernel, const Elf64_Ehdr *header, u64 entry_size,
			struct problem *why)
{
	if (header->e_phentsize != entry_size)
		return refuse(kernel, why, ENOEXEC,
			      "has program headers of %u bytes each (e_phentsize), not %" PRIu64,
			      header->e_phentsize, entry_size);
	if (!header->e_phnum || header->e_phnum > PROGRAM_HEADERS_MAX / entry_size)
		return refuse(kernel, why, ENOEXEC,
			      "has %u program headers (e_phnum), not 1 to %" PRIu64,
			      header->e_phnum, PROGRAM_HEADERS_MAX / entry_size);
	if (!inside_file(kernel, header->e_phoff, header->e_phnum * entry_size))
		return refuse(kernel, why, ENOEXEC,
			      "is truncated: its program headers at byte 0x%" PRIx64
			      " lie past its end, 0x%" PRIx64,
			      (u64)header->e_phoff, kernel->size);
	/*
	 * We have no use for sections. But linkers write their table last of all, so a
	 * copy that was cut short shows here first, if it still has every segment.
	 */
	if (header->e_shoff && header->e_shnum &&
	    !inside_file(kernel, header->e_shoff, (u64)header->e_shnum * header->e_shentsize))
		return refuse(kernel, why, ENOEXEC,
			      "is truncated: its section headers at byte 0x%" PRIx64
			      " lie past its end, 0x%" PRIx64,
			      (u64)header->e_shoff, kernel->size);
	return 0;
}

static int check_segment(const struct file *kernel, unsigned number,
			 const struct elf_segment *segment, struct problem *why)
{
	if (segment->type != PT_LOAD && segment->type != PT_NOTE)
		return 0;
	if (!inside_file(kernel, segment->offset, segment->filesz))
		return refuse(kernel, why, ENOEXEC,
			      "is truncated: its segment %u has 0x%" PRIx64 " bytes from 0x%" PRIx64
			      ", and the file ends at 0x%" PRIx64,
			      number, segment->filesz, segment->offset, kernel->size);
	if (segment->type == PT_LOAD && segment->filesz > segment->memsz)
		return refuse(kernel, why, ENOEXEC,
			      "has a segment %u with more bytes in the file (0x%" PRIx64
			      ") than in memory (0x%" PRIx64 ")",
			      number, segment->filesz, segment->memsz);
	return 0;
}

/*
 * Overlapping segments would put one's bytes into another's zeroes. Quadratic, but there are at
 * most 2,048.
 */
static int check_overlaps(const struct elf *elf, struct problem *why)
{
	for (unsigned i = 0; i < elf->count; i++) {
		const struct elf_segment *a = &elf->segments[i];

		if (a->type != PT_LOAD || !a->memsz)
			continue;
		for (unsigned j = 0; j < i; j++) {
			const struct elf_segment *b = &elf->segments[j];

			if (b->type != PT_LOAD || !b->memsz)
				continue;
			/* Distances, not ends: those could wrap. */
			if (a->paddr - b->paddr < b->memsz || b->paddr - a->paddr < a->memsz)
				return refuse(elf->file, why, ENOEXEC,
					      "has segments %u and %u that overlap, at 0x%" PRIx64
					      " and 0x%" PRIx64,
					      j, i, b->paddr, a->paddr);
		}
	}
	return 0;
}

static int read_segments(struct elf *elf, const u8 *table, u64 entry_size, struct problem *why)
{
	bool loads = false;

	for (unsigned i = 0; i < elf->count; i++) {
		int err;

		elf->segments[i] = widen_segment(table + i * entry_size, elf->is_64);
		err = check_segment(elf->file, i, &elf->segments[i], why);
		if (err)
			return err;
		loads |= elf->segments[i].type == PT_LOAD && elf->segments[i].memsz;
	}
	if (!loads)
		return refuse(elf->file, why, ENOEXEC,
			      "is an ELF file with nothing to load (no PT_LOAD segment)");
	return check_overlaps(elf, why);
}

int elf_read(struct elf *elf, const struct file *kernel, const struct kernel_head *head,
	     struct problem *why)
{
	_Alignas(Elf64_Phdr) u8 table[PROGRAM_HEADERS_MAX];
	Elf64_Ehdr header = widen_header(head);
	bool is_64 = head->bytes[EI_CLASS] == ELFCLASS64;
	u64 entry_size = is_64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
	int err = check_header(kernel, &header, entry_size, why);

	if (!err)
		err = file_read(kernel, header.e_phoff, table, header.e_phnum * entry_size, why);
	if (err)
		return err;
	*elf = (struct elf){.file = kernel,
			    .is_64 = is_64,
			    .entry = header.e_entry,
			    .count = header.e_phnum,
			    .segments = calloc(header.e_phnum, sizeof(*elf->segments))};
	if (!elf->segments)
		return refuse(kernel, why, ENOMEM, "cannot be loaded: out of memory");
	err = read_segments(elf, table, entry_size, why);
	if (err)
		elf_free(elf);
	return err;
}

void elf_free(struct elf *elf)
{
	free(elf->segments);
	elf->segments = NULL;
}

int elf_load(struct load *load, struct cpu_state *cpu,
	     int (*start)(const struct elf *elf, struct load *load, struct cpu_state *cpu))
{
	struct elf elf;
	int err = elf_read(&elf, load->boot->kernel, load->head, load->problem);

	if (err)
		return err;
	err = start(&elf, load, cpu);
	elf_free(&elf);
	return err;
}

/*
 * First a look at every segment, then the first byte. A kernel that does not fit leaves
 * nothing behind.
 *
 * Tour 2.251
 */
int elf_place(const struct elf *elf, const struct load *load)
{
	char what[32];
	int err;

	for (unsigned i = 0; i < elf->count; i++) {
		const struct elf_segment *segment = &elf->segments[i];

		if (segment->type != PT_LOAD)
			continue;
		snprintf(what, sizeof(what), "segment %u", i);
		err = load_claim(load, what, segment->paddr, segment->memsz);
		if (err)
			return err;
	}
	for (unsigned i = 0; i < elf->count; i++) {
		const struct elf_segment *segment = &elf->segments[i];
		u64 bss = segment->memsz - segment->filesz;

		if (segment->type != PT_LOAD)
			continue;
		snprintf(what, sizeof(what), "segment %u", i);
		err = load_place(load, what, segment->paddr, segment->offset, segment->filesz);
		if (err)
			return err;
		/*
		 * Memory is zero until something is put there: bss needs no work, only a mention.
		 */
		if (bss)
			log_verbose("kernel %s: segment %u goes on to 0x%" PRIx64 " with 0x%" PRIx64
				    " zero bytes",
				    elf->file->name, i, segment->paddr + segment->memsz - 1, bss);
	}
	return 0;
}

bool elf_covers(const struct elf *elf, u64 paddr)
{
	for (unsigned i = 0; i < elf->count; i++) {
		const struct elf_segment *segment = &elf->segments[i];

		if (segment->type == PT_LOAD && paddr - segment->paddr < segment->memsz)
			return true;
	}
	return false;
}

/*
 * Linux says where it starts in physical terms. A kernel that was linked to high
 * virtual addresses may not; its segment knows how to translate.
 */
int elf_entry(const struct elf *elf, u64 *entry, struct problem *why)
{
	*entry = elf->entry;
	if (elf_covers(elf, elf->entry))
		return 0;
	for (unsigned i = 0; i < elf->count; i++) {
		const struct elf_segment *segment = &elf->segments[i];

		*entry = elf->entry - segment->vaddr + segment->paddr;
		if (segment->type == PT_LOAD && elf->entry - segment->vaddr < segment->memsz)
			return 0;
	}
	return refuse(elf->file, why, ENOEXEC,
		      "starts at 0x%" PRIx64 " (e_entry), which is in none of its segments",
		      elf->entry);
}

/*
 * Look through one PT_NOTE that was read to `notes`. Its alignment is 8 where the segment says so,
 * and else 4.
 */
static int scan_notes(const struct elf *elf, const struct elf_segment *segment, const u8 *notes,
		      const char *owner, u32 type, void *data, u32 max, struct problem *why)
{
	u64 align = segment->align == 8 ? 8 : 4;
	u64 at = 0, len = segment->filesz;

	while (len - at >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr note; /* the same in both classes */
		u64 name, desc, end;

		memcpy(&note, notes + at, sizeof(note));
		name = at + sizeof(note);
		desc = align_up(name + note.n_namesz, align);
		end = desc + note.n_descsz;
		if (end > len)
			return refuse(elf->file, why, ENOEXEC,
				      "is damaged: the note at byte 0x%" PRIx64
				      " is longer than the segment it is in",
				      segment->offset + at);
		if (note.n_type == type && note.n_namesz == strlen(owner) + 1 &&
		    !memcmp(notes + name, owner, note.n_namesz)) {
			memcpy(data, notes + desc, MIN(note.n_descsz, max));
			return (int)note.n_descsz;
		}
		at = MIN(align_up(end, align), len);
	}
	return 0;
}

static int find_in_segment(const struct elf *elf, const struct elf_segment *segment,
			   const char *owner, u32 type, void *data, u32 max, struct problem *why)
{
	u8 *notes;
	int ret;

	if (segment->filesz > NOTES_MAX)
		return refuse(elf->file, why, ENOEXEC,
			      "has %" PRIu64 " bytes of ELF notes: more than %" PRIu64
			      " are not believable",
			      segment->filesz, NOTES_MAX);
	notes = malloc(segment->filesz + 1);
	if (!notes)
		return refuse(elf->file, why, ENOMEM, "cannot be loaded: out of memory");
	ret = file_read(elf->file, segment->offset, notes, segment->filesz, why);
	if (!ret)
		ret = scan_notes(elf, segment, notes, owner, type, data, max, why);
	free(notes);
	return ret;
}

int elf_find_note(const struct elf *elf, const char *owner, u32 type, void *data, u32 max,
		  struct problem *why)
{
	for (unsigned i = 0; i < elf->count; i++) {
		int ret = 0;

		if (elf->segments[i].type == PT_NOTE)
			ret = find_in_segment(elf, &elf->segments[i], owner, type, data, max, why);
		if (ret)
			return ret;
	}
	return 0;
}

/*
 * The header that a bzImage would have brought along (LOAD-7). 2.12 is the first
 * version that can speak of a 64-bit kernel; cmd_line_ptr and the initrd are
 * added by bootparams_place().
 */
static const struct setup_header vmlinux_header = {
	.boot_flag = 0xaa55,
	.header = 0x53726448, /* "HdrS" */
	.version = 0x020c,
	.loadflags = LOADED_HIGH,
	.initrd_addr_max = INITRD_MAX_DEFAULT,
	.cmdline_size = COMMAND_LINE_MAX_DEFAULT,
};

static int start_linux(const struct elf *elf, struct load *load, struct cpu_state *cpu)
{
	u64 entry;
	int err = elf_entry(elf, &entry, load->problem);

	if (!err)
		err = load_locate_initrd(load, INITRD_MAX_DEFAULT);
	if (!err)
		err = elf_place(elf, load);
	if (!err)
		err = load_place_rest(load, COMMAND_LINE_MAX_DEFAULT);
	if (err)
		return err;
	bootparams_place(load, &vmlinux_header, sizeof(vmlinux_header));
	if (elf->is_64)
		entry_64(load, cpu, entry);
	else
		entry_32(load, cpu, entry);
	cpu->gpr[RSI] = BOOT_PARAMS;
	log_verbose("kernel %s: ELF, Linux boot protocol, %s-bit entry at 0x%" PRIx64,
		    elf->file->name, elf->is_64 ? "64" : "32", entry);
	return 0;
}

int linux_elf_load(struct load *load, struct cpu_state *cpu)
{
	return elf_load(load, cpu, start_linux);
}
