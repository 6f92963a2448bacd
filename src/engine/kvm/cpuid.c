/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guest's CPUs say of themselves.
 *
 * KVM knows what it can virtualise on this host, and that is what we offer. But
 * its list describes the host's own topology, and leaves out what depends on how
 * a launcher uses it: that there is a hypervisor at all, without which a guest
 * never looks for kvmclock; and the local APIC's TSC deadline timer.
 *
 * Tour 5.130: What KVM's CPUs say of themselves
 */
#include "engine/kvm/internal.h"
#include "engine/topology.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

/* Intel SDM volume 2, "CPUID". */
#define LEAF_TOPOLOGY_2 0x1f

#define FEATURES_ECX_DEADLINE	(1u << 24)
#define FEATURES_ECX_HYPERVISOR (1u << 31)

static struct kvm_cpuid2 *supported(const struct kvm *kvm)
{
	/* KVM does not say how many there are, only when there was no room for them. */
	for (unsigned room = 64; room <= 1024; room *= 2) {
		struct kvm_cpuid2 *list =
			calloc(1, sizeof(*list) + room * sizeof(list->entries[0]));

		if (!list)
			return NULL;
		list->nent = room;
		if (!ioctl(kvm->device, KVM_GET_SUPPORTED_CPUID, list))
			return list;
		free(list);
		if (errno != E2BIG)
			return NULL;
	}
	return NULL;
}

/*
 * All that KVM offers, with two bits set that it leaves to its user, and without the leaf that
 * says what another has said already.
 *
 * Tour 5.131
 */
struct kvm_cpuid2 *kvm_cpuid_new(const struct kvm *kvm)
{
	struct kvm_cpuid2 *list = supported(kvm);
	u32 kept = 0;

	if (!list)
		return NULL;
	for (u32 i = 0; i < list->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &list->entries[i];

		if (entry->function == LEAF_FEATURES) {
			entry->ecx |= FEATURES_ECX_HYPERVISOR;
			if (ioctl(kvm->device, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0)
				entry->ecx |= FEATURES_ECX_DEADLINE;
		}
		/* The newer way to say what leaf 0xB says: once is enough. */
		if (entry->function != LEAF_TOPOLOGY_2)
			list->entries[kept++] = *entry;
	}
	list->nent = kept;
	return list;
}

static void place(struct kvm_cpuid_entry2 *entry, unsigned index, unsigned cpus)
{
	struct cpuid_result result = {entry->eax, entry->ebx, entry->ecx, entry->edx};

	topology_place(entry->function, entry->index, index, cpus, &result);
	entry->eax = result.eax;
	entry->ebx = result.ebx;
	entry->ecx = result.ecx;
	entry->edx = result.edx;
}

int kvm_cpuid_set(const struct kvm *kvm, unsigned index)
{
	/* Leaf 0xB wants all its levels; where KVM listed fewer, what is missing is added. */
	u32 room = kvm->cpuid->nent + TOPOLOGY_LEVELS;
	struct kvm_cpuid2 *list = calloc(1, sizeof(*list) + room * sizeof(list->entries[0]));
	bool have[TOPOLOGY_LEVELS] = {false}, topology = false;
	int err = 0;

	if (!list)
		return -ENOMEM;
	for (u32 i = 0; i < kvm->cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &list->entries[list->nent++];

		*entry = kvm->cpuid->entries[i];
		place(entry, index, kvm->vcpu_count);
		if (entry->function == LEAF_TOPOLOGY) {
			topology = true;
			if (entry->index < ARRAY_SIZE(have))
				have[entry->index] = true;
		}
	}
	for (u32 sub = 0; topology && sub < ARRAY_SIZE(have); sub++) {
		struct kvm_cpuid_entry2 *entry;

		if (have[sub])
			continue;
		entry = &list->entries[list->nent++];
		entry->function = LEAF_TOPOLOGY;
		entry->index = sub;
		entry->flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		place(entry, index, kvm->vcpu_count);
	}
	if (ioctl(kvm->vcpus[index].fd, KVM_SET_CPUID2, list))
		err = -errno;
	free(list);
	return err;
}

static const struct kvm_cpuid_entry2 *find_leaf(const struct kvm *kvm, u32 function)
{
	for (u32 i = 0; i < kvm->cpuid->nent; i++)
		if (kvm->cpuid->entries[i].function == function)
			return &kvm->cpuid->entries[i];
	return NULL;
}

unsigned kvm_cpuid_address_bits(const struct kvm *kvm)
{
	const struct kvm_cpuid_entry2 *sizes = find_leaf(kvm, LEAF_SIZES);

	/* Intel SDM, "CPUID": 36 where the leaf is missing. */
	return sizes ? sizes->eax & 0xff : 36;
}

bool kvm_cpuid_has_features(const struct kvm *kvm, u32 ecx)
{
	const struct kvm_cpuid_entry2 *features = find_leaf(kvm, LEAF_FEATURES);

	return features && (features->ecx & ecx) == ecx;
}
