/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kernels to boot in tests: images built byte by byte, a guest to load them
 * into, and a file that is nowhere on disk.
 *
 * The builders make good images; a test then spoils what it is about.
 */
#ifndef TESTS_BOOT_IMAGES_H
#define TESTS_BOOT_IMAGES_H

#include "boot/boot.h"

/*
 * Fields of the setup header, by their place in the file: linux: Documentation/arch/x86/boot.rst.
 */
#define BZ_SETUP_SECTS	   0x1f1
#define BZ_SYSSIZE	   0x1f4
#define BZ_JUMP_LENGTH	   0x201
#define BZ_MAGIC	   0x202
#define BZ_VERSION	   0x206
#define BZ_LOADFLAGS	   0x211
#define BZ_CODE32_START	   0x214
#define BZ_INITRD_ADDR_MAX 0x22c
#define BZ_ALIGNMENT	   0x230
#define BZ_RELOCATABLE	   0x234
#define BZ_XLOADFLAGS	   0x236
#define BZ_CMDLINE_SIZE	   0x238
#define BZ_SETUP_DATA	   0x250
#define BZ_PREF_ADDRESS	   0x258
#define BZ_INIT_SIZE	   0x260
#define BZ_HEADER_END	   0x26c

/* Of the bzImage that image_bzimage() makes. */
#define BZ_OFFSET    0x400 /* setup_sects is 1 */
#define BZ_SIZE	     0x1000
#define BZ_PREFERRED 0x1000000
#define BZ_ALIGN     0x200000
#define BZ_INIT	     0x800000

#define IMAGE_ROOM 65536

struct image {
	u8 bytes[IMAGE_ROOM];
	size_t len;
};

void put(struct image *image, size_t at, u64 value, unsigned width);
u64 get(const void *from, unsigned width);

/* Bytes that say where they belong: no two stretches look alike. */
void put_pattern(struct image *image, size_t at, size_t len, u8 seed);

/* Protocol 2.15, relocatable, with a 64-bit entry. */
void image_bzimage(struct image *image);

struct image_segment {
	u32 type;
	u64 vaddr, paddr;
	u64 offset, filesz, memsz;
};

/*
 * An ELF executable: i386 or x86-64, with these program headers, and a pattern
 * (seeded with the number of the segment) where each has its bytes.
 */
void image_elf(struct image *image, bool is_64, u64 entry, const struct image_segment *segments,
	       unsigned count);

/* Where that program header has its fields. */
size_t elf_phdr(bool is_64, unsigned number);

/* A note "Xen" 18 with this entry, `width` bytes of it. Returns its length. */
size_t put_pvh_note(struct image *image, size_t at, u64 entry, unsigned width);

void put_multiboot(struct image *image, size_t at, u32 flags);

/* A guest, and the files for it. */
struct rig {
	struct memory *memory;
	struct file kernel, initrd;
	struct boot boot;
	struct cpu_state cpu;
	struct problem problem;
};

/* A file without a name on disk; test_file_close() it. */
void test_file(struct file *file, const char *what, const void *bytes, size_t len);

/* `initrd_len` bytes of pattern are the initrd; 0: none. */
void rig_open(struct rig *rig, const struct image *image, u64 memory, size_t initrd_len,
	      const char *command_line);
int rig_load(struct rig *rig);
void rig_close(struct rig *rig);

/* Open, load and check that it worked. */
void rig_boot(struct rig *rig, const struct image *image, u64 memory, size_t initrd_len,
	      const char *command_line);

/* Open, load, and check that it was refused with one line that has all these words in it. */
#define assert_refused(image, memory, initrd_len, command_line, ...)                               \
	check_refused(image, memory, initrd_len, command_line,                                     \
		      (const char *const[]){__VA_ARGS__, NULL})
void check_refused(const struct image *image, u64 memory, size_t initrd_len,
		   const char *command_line, const char *const words[]);

/* What is at this guest-physical address. */
const void *rig_at(const struct rig *rig, u64 gpa, u64 len);
u64 rig_get(const struct rig *rig, u64 gpa, unsigned width);
void assert_pattern(const struct rig *rig, u64 gpa, size_t len, u8 seed);
void assert_zero(const struct rig *rig, u64 gpa, size_t len);

/* The state is one that a CPU can be in, and its tables in memory agree with it. */
void assert_flat(const struct rig *rig, bool is_64);

/*
 * Whatever the file: it is either refused in words, or the first instruction is where a kernel may
 * be.
 */
void rig_load_anything(struct rig *rig);

/* Put extreme values over each field of [from, to), one at a time, and load the result. */
void assert_survives_extremes(const struct image *image, size_t from, size_t to);

/* Every shorter file must be refused. */
void assert_no_part_boots(const struct image *image);

#endif
