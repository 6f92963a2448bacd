/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The state in which the first CPU meets the kernel: segments, control
 * registers, and the tables that go with them. Two kinds suffice for all four
 * formats: flat 32-bit mode without paging, and 64-bit mode with the low 4 GiB
 * mapped one to one.
 *
 * Every descriptor is there in memory and says what the CPU's hidden part says.
 * Linux reloads its segment registers early, from this very table.
 *
 * Tour 2.280: The first CPU before its first instruction
 */
#include "boot/internal.h"

#include <asm/processor-flags.h>
#include <string.h>

/* Selectors that the boot protocol prescribes: boot.rst, "32-bit Boot Protocol". */
#define BOOT_CS 0x10
#define BOOT_DS 0x18
/*
 * KVM on Intel will not enter a guest without a busy TSS (Intel SDM 3C, "Checks on Guest Segment
 * Registers").
 */
#define BOOT_TR 0x20

#define GDT_ENTRIES 6 /* two of them empty; a TSS takes two in 64-bit mode */

/*
 * Descriptor types: Intel SDM 3A, "Code- and Data-Segment Descriptor Types" and "System Descriptor
 * Types".
 */
#define TYPE_CODE 11 /* execute, read, accessed */
#define TYPE_DATA 3  /* read, write, accessed */
#define TYPE_TSS  11 /* busy */
#define TSS_SIZE  0x68

/* MSR EFER: Intel SDM 4, "IA32_EFER". There is no uapi header for it. */
#define EFER_LME (1u << 8)
#define EFER_LMA (1u << 10)

/* Page table entries: Intel SDM 3A, "4-Level Paging". */
#define PAGE_PRESENT  1u
#define PAGE_WRITE    2u
#define PAGE_LARGE    0x80u
#define TABLE_ENTRIES 512
#define LARGE_PAGE    MiB(2)
#define MAPPED_TABLES 4 /* of 1 GiB each */

_Static_assert(BOOT_PAGE_TABLES + (2 + MAPPED_TABLES) * PAGE_SIZE <= BOOT_INFO, "tables overlap");

/* The eight bytes that a CPU would load this segment from. */
static u64 descriptor(const struct segment *segment)
{
	u64 limit = segment->g ? segment->limit >> 12 : segment->limit;

	return (limit & 0xffff) | (segment->base & 0xffffff) << 16 | (u64)segment->type << 40 |
	       (u64)segment->s << 44 | (u64)segment->dpl << 45 | (u64)segment->present << 47 |
	       (limit >> 16) << 48 | (u64)segment->avl << 52 | (u64)segment->l << 53 |
	       (u64)segment->db << 54 | (u64)segment->g << 55 | (segment->base >> 24 & 0xff) << 56;
}

static void place_gdt(const struct load *load, struct cpu_state *cpu)
{
	u64 *gdt = boot_area(load, BOOT_GDT, GDT_ENTRIES * sizeof(*gdt));

	memset(gdt, 0, GDT_ENTRIES * sizeof(*gdt));
	gdt[BOOT_CS / sizeof(*gdt)] = descriptor(&cpu->cs);
	gdt[BOOT_DS / sizeof(*gdt)] = descriptor(&cpu->ds);
	gdt[BOOT_TR / sizeof(*gdt)] = descriptor(&cpu->tr);
	memset(boot_area(load, BOOT_TSS, TSS_SIZE), 0, TSS_SIZE);
	cpu->gdt = (struct descriptor_table){BOOT_GDT, GDT_ENTRIES * sizeof(*gdt) - 1};
}

/*
 * What both modes have in common. The IDT is empty: an early exception is a triple fault, and ends
 * with a clear line.
 *
 * Tour 2.281: A processor, set by hand
 */
static void start_flat(const struct load *load, struct cpu_state *cpu, bool is_64)
{
	const struct segment data = {
		.selector = BOOT_DS,
		.limit = UINT32_MAX,
		.type = TYPE_DATA,
		.s = true,
		.present = true,
		.db = true,
		.g = true,
	};

	memset(cpu, 0, sizeof(*cpu));
	cpu->cs = data;
	cpu->cs.selector = BOOT_CS;
	cpu->cs.type = TYPE_CODE;
	cpu->cs.l = is_64;
	cpu->cs.db = !is_64;
	cpu->ds = cpu->es = cpu->fs = cpu->gs = cpu->ss = data;
	cpu->tr = (struct segment){
		.selector = BOOT_TR,
		.base = BOOT_TSS,
		.limit = TSS_SIZE - 1,
		.type = TYPE_TSS,
		.present = true,
	};
	place_gdt(load, cpu);
	cpu->rflags = X86_EFLAGS_FIXED;
	cpu->cr0 = X86_CR0_PE | X86_CR0_ET;
}

void entry_32(const struct load *load, struct cpu_state *cpu, u32 rip)
{
	start_flat(load, cpu, false);
	cpu->rip = rip;
}

/*
 * PML4, one page directory pointer table, and four page directories full of 2 MiB pages.
 *
 * Tour 2.282, 2 items: And its page tables
 */
static void place_page_tables(const struct load *load)
{
	u64 *pml4 = boot_area(load, BOOT_PAGE_TABLES, (2 + MAPPED_TABLES) * PAGE_SIZE);
	u64 *pointers = pml4 + TABLE_ENTRIES;
	u64 *pages = pointers + TABLE_ENTRIES;

	memset(pml4, 0, 2 * PAGE_SIZE);
	pml4[0] = (BOOT_PAGE_TABLES + PAGE_SIZE) | PAGE_PRESENT | PAGE_WRITE;
	for (u64 i = 0; i < MAPPED_TABLES; i++)
		pointers[i] = (BOOT_PAGE_TABLES + (2 + i) * PAGE_SIZE) | PAGE_PRESENT | PAGE_WRITE;
	for (u64 i = 0; i < MAPPED_TABLES * TABLE_ENTRIES; i++)
		pages[i] = i * LARGE_PAGE | PAGE_PRESENT | PAGE_WRITE | PAGE_LARGE;
}

void entry_64(const struct load *load, struct cpu_state *cpu, u64 rip)
{
	start_flat(load, cpu, true);
	place_page_tables(load);
	cpu->rip = rip;
	cpu->cr0 |= X86_CR0_PG | X86_CR0_WP;
	cpu->cr3 = BOOT_PAGE_TABLES;
	cpu->cr4 = X86_CR4_PAE;
	cpu->efer = EFER_LME | EFER_LMA;
}
