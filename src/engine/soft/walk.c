/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Page walks: what the guest's tables say of an address, who may do what there, and
 * the page fault if not. mmu.c asks when the TLB does not know; what comes of the answer
 * is its affair.
 */
#include "engine/soft/paging.h"
#include "engine/soft/system.h"

/* "Page-Fault Exceptions": bits of the error code. */
#define FAULT_PRESENT  1u
#define FAULT_WRITE    2u
#define FAULT_USER     4u
#define FAULT_RESERVED 8u
#define FAULT_FETCH    16u

static bool fault(struct vcpu *vcpu, u64 address, enum access access, u32 error)
{
	if (access & ACCESS_WRITE)
		error |= FAULT_WRITE;
	if (vcpu->cpl == 3 && !(access & ACCESS_SYSTEM))
		error |= FAULT_USER;
	if (access & ACCESS_FETCH && (vcpu->efer & EFER_NX || vcpu->cr4 & X86_CR4_SMEP))
		error |= FAULT_FETCH;
	TRACE(vcpu, MMU, "fault 0x%llx error %u rip 0x%llx", (unsigned long long)address, error,
	      (unsigned long long)vcpu->insn_rip);
	return raise_page_fault(vcpu, address, error);
}

/* Bits that must be 0 in an entry at this level. */
static u64 reserved_bits(const struct vcpu *vcpu, unsigned level, u64 entry)
{
	u64 bits = PTE_ADDRESS & ~((1ull << cpuid_address_bits()) - 1);

	if (!(vcpu->efer & EFER_NX))
		bits |= PTE_NX;
	if (level == 3)
		bits |= PTE_LARGE;
	/* Bit 12 of a large page's is for the PAT. */
	else if (level && entry & PTE_LARGE)
		bits |= ((1ull << (12 + 9 * level)) - 1) & PTE_ADDRESS & ~(1ull << 12);
	return bits;
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
	if (access & ACCESS_WRITE && !(rights & PTE_WRITE))
		return !user && !(vcpu->cr0 & X86_CR0_WP);
	return true;
}

/* Set bits in an entry that another CPU may change meanwhile: false: it did. */
static bool set_bits(u64 *entry, u64 old, u64 bits)
{
	return (old & bits) == bits ||
	       __atomic_compare_exchange_n(entry, &old, old | bits, false, __ATOMIC_SEQ_CST,
					   __ATOMIC_SEQ_CST);
}

/* One try: -1: the tables changed under us. */
static int walk_once(struct vcpu *vcpu, u64 address, enum access access, struct mapping *found)
{
	u64 *entries[4], values[4];
	u64 table = vcpu->cr3 & PTE_ADDRESS, rights = PTE_WRITE | PTE_USER;
	unsigned level = 4;
	u64 entry, offset;

	do {
		level--;
		entries[level] = (u64 *)ram_at(vcpu->soft, table);
		if (entries[level]) {
			entries[level] += address >> (12 + 9 * level) & 511;
			values[level] = __atomic_load_n(entries[level], __ATOMIC_ACQUIRE);
		} else {
			/* A table where nothing is reads as all ones. */
			values[level] = ~0ull;
		}
		entry = values[level];
		if (!(entry & PTE_PRESENT))
			return fault(vcpu, address, access, 0);
		if (entry & reserved_bits(vcpu, level, entry))
			return fault(vcpu, address, access, FAULT_PRESENT | FAULT_RESERVED);
		rights &= entry | PTE_NX;
		rights |= entry & PTE_NX;
		table = entry & PTE_ADDRESS;
	} while (level && !(level < 3 && entry & PTE_LARGE));
	if (!paging_allowed(vcpu, access, rights))
		return fault(vcpu, address, access, FAULT_PRESENT);
	for (unsigned i = 4; i-- > level;)
		if (entries[i] &&
		    !set_bits(entries[i], values[i],
			      i == level && access & ACCESS_WRITE ? PTE_ACCESSED | PTE_DIRTY
								  : PTE_ACCESSED))
			return -1;
	if (access & ACCESS_WRITE)
		entry |= PTE_DIRTY;
	offset = (1ull << (12 + 9 * level)) - 1;
	*found = (struct mapping){
		.gpa = (entry & PTE_ADDRESS & ~offset) | (address & offset),
		.rights = rights,
		.leaf = entry,
		.flags = level == 2   ? TLB_1G
			 : level == 1 ? TLB_2M
				      : 0,
	};
	if (entry & PTE_GLOBAL && vcpu->cr4 & X86_CR4_PGE)
		found->flags |= TLB_GLOBAL;
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
	if (!vcpu_long_mode(vcpu))
		return fault(vcpu, address, access, 0);
	do
		done = walk_once(vcpu, address, access, found);
	while (done < 0);
	return done;
}
