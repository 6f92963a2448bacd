/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the loaders share among themselves. Nobody outside src/boot includes
 * this; boot.h is for them.
 *
 * A loader works in three steps, so that nothing is put into memory before all
 * of it is known to fit: read and check the headers, claim the ranges, place.
 *
 * Tour 2.220: What loaders have in common
 */
#ifndef BOOT_INTERNAL_H
#define BOOT_INTERNAL_H

#include "board/layout.h"
#include "boot/boot.h"

#include <asm/bootparam.h>
#include <elf.h>

/*
 * Where our own small things go, all of them below LAYOUT_BOOT_END, which the
 * guest's memory map calls reserved.
 */
#define BOOT_PARAMS	      LAYOUT_BOOT /* the zero page */
#define BOOT_GDT	      (LAYOUT_BOOT + 0x1000)
#define BOOT_TSS	      (LAYOUT_BOOT + 0x1800)
#define BOOT_PAGE_TABLES      (LAYOUT_BOOT + 0x2000) /* six pages, entry.c */
#define BOOT_INFO	      (LAYOUT_BOOT + 0x8000) /* of PVH and Multiboot */
#define BOOT_COMMAND_LINE     (LAYOUT_BOOT + 0xf000) /* all the rest */
#define BOOT_COMMAND_LINE_MAX (LAYOUT_BOOT_END - BOOT_COMMAND_LINE - 1)

/* What holds where the image cannot say: LOAD-5, LOAD-6. */
#define INITRD_MAX_DEFAULT	 0x37ffffffu
#define COMMAND_LINE_MAX_DEFAULT 2047u

/*
 * Enough of the file to recognise it: a Multiboot header lies within so many bytes (Multiboot: OS
 * image format).
 */
#define KERNEL_HEAD 8192

struct kernel_head {
	u8 bytes[KERNEL_HEAD];
	u64 len; /* less if the file is shorter */
};

struct load {
	const struct boot *boot;
	const struct kernel_head *head;
	struct problem *problem;
	u64 initrd, initrd_size; /* where it goes; 0, 0 if there is none */
};

/* boot.c: "the kernel vmlinuz <format>" into *why. Returns -err. */
int refuse(const struct file *file, struct problem *why, int err, const char *format, ...)
	PRINTF(4, 5);

/* Decide where the initrd goes, no byte of it above `max`. -ENOMEM: it does not fit. */
int load_locate_initrd(struct load *load, u64 max);

/*
 * The kernel's [start, start + size) is for `what` ("segment 2"): is it RAM, is it not ours,
 * is it clear of the initrd? -errno.
 */
int load_claim(const struct load *load, const char *what, u64 start, u64 size);

/* Put that part of the kernel file there. -errno. */
int load_place(const struct load *load, const char *what, u64 gpa, u64 offset, u64 len);

/*
 * What every kernel gets, in its place: the command line (at most `max` bytes without the zero),
 * and the initrd where load_locate_initrd() said. -errno.
 */
int load_place_rest(const struct load *load, u64 max);

/* What is RAM and what is not, in the order of addresses. Returns how many entries were filled. */
#define MEMORY_MAP_MAX 5
unsigned boot_memory_map(const struct memory *memory, struct boot_e820_entry map[MEMORY_MAP_MAX]);

/* A part of our own area. Never NULL: boot_load() refused memory too small for it. */
void *boot_area(const struct load *load, u64 gpa, u64 len);

/* elf.c */
struct elf_segment {
	u32 type;
	u64 offset, filesz;
	u64 vaddr, paddr, memsz, align;
};

struct elf {
	const struct file *file;
	bool is_64;
	u64 entry; /* as the file has it */
	unsigned count;
	struct elf_segment *segments; /* of all types; malloc()ed */
};

/*
 * The file starts with the ELF magic. Is it for this machine and of a kind that can be run where it
 * was linked to?
 */
int elf_check_head(const struct file *kernel, const struct kernel_head *head, struct problem *why);

/* Read and check all program headers. On success the caller must elf_free(). -errno. */
int elf_read(struct elf *elf, const struct file *kernel, const struct kernel_head *head,
	     struct problem *why);
void elf_free(struct elf *elf);

/* Read it, have start() put it into memory, and forget it. -errno. */
int elf_load(struct load *load, struct cpu_state *cpu,
	     int (*start)(const struct elf *elf, struct load *load, struct cpu_state *cpu));

/* Claim and place every PT_LOAD. -errno. */
int elf_place(const struct elf *elf, const struct load *load);

/* Does a PT_LOAD cover this guest-physical address? */
bool elf_covers(const struct elf *elf, u64 paddr);

/* e_entry as a guest-physical address. -ENOEXEC: it is nowhere in the kernel. */
int elf_entry(const struct elf *elf, u64 *entry, struct problem *why);

/*
 * Find the note of this owner and type: up to `max` bytes of it into *data. Its length; 0 if there
 * is no such note, -errno.
 */
int elf_find_note(const struct elf *elf, const char *owner, u32 type, void *data, u32 max,
		  struct problem *why);

/* What makes an ELF kernel a PVH or a Multiboot one. 1: yes, 0: no, -errno. */
int pvh_recognise(const struct elf *elf, u64 *entry, struct problem *why);
bool multiboot_recognise(const struct kernel_head *head);
bool bzimage_recognise(const struct kernel_head *head);

/* The four loaders: everything into memory, *cpu filled. -errno. */
int bzimage_load(struct load *load, struct cpu_state *cpu);
int linux_elf_load(struct load *load, struct cpu_state *cpu);
int pvh_load(struct load *load, struct cpu_state *cpu);
int multiboot_load(struct load *load, struct cpu_state *cpu);

/* bootparams.c: the zero page, around this setup header (`len` bytes of it count). */
void bootparams_place(const struct load *load, const struct setup_header *header, size_t len);

/*
 * entry.c: the first instruction is at `rip`, in flat 32-bit or in 64-bit mode; all other registers
 * are zero.
 */
void entry_32(const struct load *load, struct cpu_state *cpu, u32 rip);
void entry_64(const struct load *load, struct cpu_state *cpu, u64 rip);

#endif
