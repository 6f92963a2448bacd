/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Page walks: what the guest's tables say of an address, who may do what there, and
 * the page fault if not. mmu.c asks when the TLB does not know; what comes of the answer
 * is its affair.
 *
 * Tables come in three shapes (Intel SDM 3A, "Paging Modes and Control Bits"): two levels
 * of 32-bit entries; PAE, whose third level is four registers that are read from memory
 * when a control register is written, and at no other time; and long mode's.
 * Below the registers PAE looks like long mode, less its two top levels.
 *
 * Tour 6.440: Reading the guest's page tables
 */
#include "engine/soft/paging.h"
#include "engine/soft/system.h"

/* "Page-Fault Exceptions": bits of the error code. */
#define FAULT_PRESENT  1u
#define FAULT_WRITE    2u
#define FAULT_USER     4u
#define FAULT_RESERVED 8u
#define FAULT_FETCH    16u
#define FAULT_KEY      32u

/* Bits of addresses, and what else is special. A narrow entry's are in its low half. */
#define CR3_TABLE_32	  0xfffff000u
#define CR3_TABLE_PAE	  0xffffffe0u
#define PDPTE_RESERVED	  (3ull << 1 | 15ull << 5) /* and what no address has */
#define PTE_IGNORED	  (0x7ffull << 52)
#define PDE_4M_HIGH	  (0xffull << 13) /* PSE-36: bits 39..32 of the address */
#define PDE_4M_HIGH_SHIFT 19
#define PDE_4M_RESERVED	  (1ull << 21)

/* PKRU: two bits for each key. */
#define PKRU_NO_ACCESS 1u
#define PKRU_NO_WRITE  2u

#define MAX_LEVELS 4
#define NOTHING	   (~0ull) /* what memory says where there is none */

static bool fault(struct vcpu *vcpu, u64 address, enum access access, u32 error)
{
	if (access & ACCESS_WRITE)
		error |= FAULT_WRITE;
	if (vcpu->cpl == 3 && !(access & ACCESS_SYSTEM))
		error |= FAULT_USER;
	if (access & ACCESS_FETCH &&
	    ((vcpu->efer & EFER_NX && vcpu->cr4 & X86_CR4_PAE) || vcpu->cr4 & X86_CR4_SMEP))
		error |= FAULT_FETCH;
	TRACE(vcpu, MMU, "fault 0x%llx error %u rip 0x%llx", (unsigned long long)address, error,
	      (unsigned long long)vcpu->insn_rip);
	return raise_page_fault(vcpu, address, error);
}

/* Intel SDM 3A, "Protection Keys": data of users, whoever accesses it. */
static bool key_forbids(const struct vcpu *vcpu, enum access access, u64 rights)
{
	u32 key = vcpu->pkru >> 2 * ((rights & PTE_KEY) >> PTE_KEY_SHIFT);
	bool user = vcpu->cpl == 3 && !(access & ACCESS_SYSTEM);

	if (!(vcpu->cr4 & X86_CR4_PKE) || !vcpu_long_mode(vcpu) || !(rights & PTE_USER) ||
	    access & ACCESS_FETCH)
		return false;
	return key & PKRU_NO_ACCESS ||
	       (key & PKRU_NO_WRITE && access & ACCESS_WRITE && (user || vcpu->cr0 & X86_CR0_WP));
}

bool paging_allowed(const struct vcpu *vcpu, enum access access, u64 rights)
{
	bool user = vcpu->cpl == 3 && !(access & ACCESS_SYSTEM);

	if (user && !(rights & PTE_USER))
		return false;
	if (access & ACCESS_FETCH)
		return !(rights & PTE_NX) &&
		       (user || !(rights & PTE_USER) || !(vcpu->cr4 & X86_CR4_SMEP));
	if (!user && rights & PTE_USER && vcpu->cr4 & X86_CR4_SMAP &&
	    (access & ACCESS_SYSTEM || (vcpu->mode & MODE_VIEW) != VIEW_KERNEL_AC))
		return false;
	if (key_forbids(vcpu, access, rights))
		return false;
	if (access & ACCESS_WRITE && !(rights & PTE_WRITE))
		return !user && !(vcpu->cr0 & X86_CR0_WP);
	return true;
}

/* ------------------------------------------------------------------ the shapes of tables */

static bool is_wide(const struct vcpu *vcpu)
{
	return vcpu->cr4 & X86_CR4_PAE;
}

/* Which bits of an address index the table at this level; below are those of the page. */
static unsigned level_shift(bool wide, unsigned level)
{
	return wide ? 12 + 9 * level : 12 + 10 * level;
}

static bool is_leaf(const struct vcpu *vcpu, unsigned level, u64 entry)
{
	if (!level)
		return true;
	return entry & PTE_LARGE && level < 3 && (is_wide(vcpu) || vcpu->cr4 & X86_CR4_PSE);
}

/* Bits that must be 0 in an entry at this level: the tables in Intel SDM 3A, chapter "Paging". */
static u64 reserved_bits(const struct vcpu *vcpu, unsigned level, u64 entry)
{
	u64 bits;

	if (!is_wide(vcpu))
		return level && is_leaf(vcpu, level, entry) ? PDE_4M_RESERVED : 0;
	bits = PTE_ADDRESS & ~((1ull << cpuid_address_bits()) - 1);
	/* What long mode leaves to software, PAE does not. */
	if (!vcpu_long_mode(vcpu))
		bits |= PTE_IGNORED;
	if (!(vcpu->efer & EFER_NX))
		bits |= PTE_NX;
	if (level >= 3)
		bits |= PTE_LARGE;
	/* Bit 12 of a large page's is for the PAT. */
	else if (level && entry & PTE_LARGE)
		bits |= ((1ull << level_shift(true, level)) - 1) & PTE_ADDRESS & ~(1ull << 12);
	return bits;
}

/* The page that a leaf points to. */
static u64 frame_of(bool wide, unsigned level, u64 entry)
{
	u64 frame = entry & PTE_ADDRESS & -(1ull << level_shift(wide, level));

	/* PSE-36: that a 32-bit entry can point beyond 4 GiB is due to bits that nothing else used.
	 */
	if (!wide && level)
		frame |= (entry & PDE_4M_HIGH) << PDE_4M_HIGH_SHIFT;
	return frame;
}

static u8 size_flag(bool wide, unsigned level)
{
	if (!level)
		return 0;
	if (!wide)
		return TLB_4M;
	return level == 1 ? TLB_2M : TLB_1G;
}

/* The rights that are left behind an entry, be it a table's or the leaf. */
static u64 rights_through(u64 rights, u64 entry)
{
	return (rights & (entry | PTE_NX)) | (entry & PTE_NX);
}

/* What the leaf at this level says of the address, with the rights of the whole way. */
static struct mapping mapping_of(const struct vcpu *vcpu, u64 address, unsigned level, u64 leaf,
				 u64 rights)
{
	const bool wide = is_wide(vcpu);
	struct mapping mapping = {
		.gpa = frame_of(wide, level, leaf) |
		       (address & ((1ull << level_shift(wide, level)) - 1)),
		.rights = rights,
		.leaf = leaf,
		.flags = size_flag(wide, level),
	};

	if (vcpu->cr4 & X86_CR4_PKE)
		mapping.flags |= (leaf & PTE_KEY) >> PTE_KEY_SHIFT << TLB_KEY_SHIFT;
	if (leaf & PTE_GLOBAL && vcpu->cr4 & X86_CR4_PGE)
		mapping.flags |= TLB_GLOBAL;
	return mapping;
}

/* Where the first table in memory is, and its level plus 1. False: there is none. */
static bool first_table(const struct vcpu *vcpu, u64 address, u64 *table, unsigned *levels)
{
	u64 pointer;

	if (vcpu_long_mode(vcpu)) {
		*table = vcpu->cr3 & PTE_ADDRESS;
		*levels = 4;
		return true;
	}
	*levels = 2;
	if (!is_wide(vcpu)) {
		*table = vcpu->cr3 & CR3_TABLE_32;
		return true;
	}
	pointer = vcpu->pdpte[address / GiB(1) % ARRAY_SIZE(vcpu->pdpte)];
	*table = pointer & PTE_ADDRESS;
	return pointer & PTE_PRESENT;
}

/* Intel SDM 3A, "PDPTE Registers". All or none are loaded. */
bool paging_load_pointers(struct vcpu *vcpu, u64 cr3)
{
	const u64 reserved = PDPTE_RESERVED | ~((1ull << cpuid_address_bits()) - 1);
	const u64 *table = (u64 *)ram_at(vcpu->soft, cr3 & CR3_TABLE_PAE);
	u64 entries[ARRAY_SIZE(vcpu->pdpte)];

	for (unsigned i = 0; i < ARRAY_SIZE(entries); i++) {
		entries[i] = table ? __atomic_load_n(&table[i], __ATOMIC_RELAXED) : NOTHING;
		if (entries[i] & PTE_PRESENT && entries[i] & reserved)
			return false;
	}
	__builtin_memcpy(vcpu->pdpte, entries, sizeof(entries));
	return true;
}

/* ------------------------------------------------------------------ walking */

static u64 read_entry(const void *entry, bool wide)
{
	/* A table where nothing is reads as all ones. */
	if (!entry)
		return wide ? NOTHING : (u32)NOTHING;
	return wide ? __atomic_load_n((const u64 *)entry, __ATOMIC_ACQUIRE)
		    : __atomic_load_n((const u32 *)entry, __ATOMIC_ACQUIRE);
}

/* Set bits in an entry that another CPU may change meanwhile: false: it did. */
static bool set_bits(void *entry, bool wide, u64 old, u64 bits)
{
	u32 narrow = old;

	if (!entry || (old & bits) == bits)
		return true;
	if (wide)
		return __atomic_compare_exchange_n((u64 *)entry, &old, old | bits, false,
						   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	return __atomic_compare_exchange_n((u32 *)entry, &narrow, narrow | (u32)bits, false,
					   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static void *entry_at(const struct vcpu *vcpu, u64 table, u64 address, unsigned level)
{
	const bool wide = is_wide(vcpu);
	u64 index = address >> level_shift(wide, level);
	u8 *host = ram_at(vcpu->soft, table);

	if (!host)
		return NULL;
	return host + (wide ? index % 512 * 8 : index % 1024 * 4);
}

/*
 * Intel SDM 3A, "Paging-Structure Caches": the entries that lead to a table may be remembered, with
 * their accessed bits set, until something of the TLB is forgotten; be it one page.
 */
static struct walk *walk_of(struct vcpu *vcpu, u64 address)
{
	return &vcpu->walk[address / MiB(2) % WALKS_KEPT];
}

static const struct walk *kept_walk(struct vcpu *vcpu, u64 address)
{
	const struct walk *walk = walk_of(vcpu, address);

	return walk->piece == address / MiB(2) && walk->epoch == vcpu->walk_epoch &&
			       vcpu_long_mode(vcpu)
		       ? walk
		       : NULL;
}

static void keep_walk(struct vcpu *vcpu, u64 address, u64 *entry, u64 rights)
{
	if (entry && vcpu_long_mode(vcpu))
		*walk_of(vcpu, address) = (struct walk){
			.piece = address / MiB(2),
			.epoch = vcpu->walk_epoch,
			.table = entry - address / PAGE_SIZE % 512,
			.rights = rights,
		};
}

/*
 * One try: -1: the tables changed under us.
 *
 * As the processor does it: from the root down to a page, with the rights of all levels taken
 * together, and a fault whose error code says what was wrong. Accessed and dirty bits are set
 * only when all is well, each by a compare and exchange: another CPU of the guest may be
 * changing the same entry.
 *
 * Tour 6.441: Down the page tables
 */
static int walk_once(struct vcpu *vcpu, u64 address, enum access access, struct mapping *found)
{
	void *entries[MAX_LEVELS];
	u64 values[MAX_LEVELS], table = 0, entry, rights = PTE_WRITE | PTE_USER, above;
	const struct walk *kept = kept_walk(vcpu, address);
	const bool wide = is_wide(vcpu);
	unsigned levels = 1, level;

	if (kept)
		rights = kept->rights;
	else if (!first_table(vcpu, address, &table, &levels))
		return fault(vcpu, address, access, 0);
	level = levels;
	do {
		level--;
		above = rights;
		entries[level] = kept ? kept->table + address / PAGE_SIZE % 512
				      : entry_at(vcpu, table, address, level);
		values[level] = entry = read_entry(entries[level], wide);
		if (!(entry & PTE_PRESENT))
			return fault(vcpu, address, access, 0);
		if (entry & reserved_bits(vcpu, level, entry))
			return fault(vcpu, address, access, FAULT_PRESENT | FAULT_RESERVED);
		rights = rights_through(rights, entry);
		table = entry & PTE_ADDRESS;
	} while (!is_leaf(vcpu, level, entry));
	rights |= entry & PTE_KEY;
	if (!paging_allowed(vcpu, access, rights))
		return fault(vcpu, address, access,
			     key_forbids(vcpu, access, rights) ? FAULT_PRESENT | FAULT_KEY
							       : FAULT_PRESENT);
	for (unsigned i = levels; i-- > level;)
		if (!set_bits(entries[i], wide, values[i],
			      i == level && access & ACCESS_WRITE ? PTE_ACCESSED | PTE_DIRTY
								  : PTE_ACCESSED))
			return -1;
	if (!kept && !level)
		keep_walk(vcpu, address, entries[0], above);
	if (access & ACCESS_WRITE)
		entry |= PTE_DIRTY;
	*found = mapping_of(vcpu, address, level, entry, rights);
	return true;
}

bool paging_walk(struct vcpu *vcpu, u64 address, enum access access, struct mapping *found)
{
	bool user = vcpu->cpl == 3 && !(access & ACCESS_SYSTEM);
	int done;

	if (!(vcpu->cr0 & X86_CR0_PG)) {
		*found = (struct mapping){
			.gpa = (u32)address,
			/* Nobody asks whose it is: neither SMEP nor SMAP, nor a user at CPL 3. */
			.rights = PTE_WRITE | (user ? PTE_USER : 0),
			.leaf = PTE_DIRTY,
			.flags = TLB_GLOBAL,
		};
		return true;
	}
	do
		done = walk_once(vcpu, address, access, found);
	while (done < 0);
	return done;
}

/* Down the tables, touching nothing. False: there is nothing, or it was not accessed and should be.
 */
static bool descend(const struct vcpu *vcpu, u64 address, u64 wanted, struct mapping *found)
{
	u64 table, entry, rights = PTE_WRITE | PTE_USER;
	const bool wide = is_wide(vcpu);
	unsigned level;

	if ((vcpu_long_mode(vcpu) && !system_canonical(address)) ||
	    !first_table(vcpu, address, &table, &level))
		return false;
	do {
		level--;
		entry = read_entry(entry_at(vcpu, table, address, level), wide);
		if ((entry & wanted) != wanted || entry & reserved_bits(vcpu, level, entry))
			return false;
		rights = rights_through(rights, entry);
		table = entry & PTE_ADDRESS;
	} while (!is_leaf(vcpu, level, entry));
	*found = mapping_of(vcpu, address, level, entry, rights | (entry & PTE_KEY));
	return true;
}

bool paging_look(const struct vcpu *vcpu, u64 address, struct mapping *found)
{
	return descend(vcpu, address, PTE_PRESENT | PTE_ACCESSED, found);
}

bool paging_peek(const struct vcpu *vcpu, u64 address, u64 *gpa)
{
	struct mapping found;

	if (!(vcpu->cr0 & X86_CR0_PG)) {
		*gpa = (u32)address;
		return true;
	}
	if (!descend(vcpu, address, PTE_PRESENT, &found))
		return false;
	*gpa = found.gpa;
	return true;
}
