/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the KVM engine share.
 */
#ifndef ENGINE_KVM_INTERNAL_H
#define ENGINE_KVM_INTERNAL_H

#include "board/layout.h"
#include "engine/engine.h"

#include <linux/kvm.h>
#include <pthread.h>

/* An APIC id has 8 bits in an MSI's address, and the last one means everybody. */
#define KVM_VCPUS_MAX 255

struct kvm_vcpu {
	int fd;		     /* -1: not made yet */
	struct kvm_run *run; /* shared with the kernel: why it came back */
	pthread_t thread;    /* valid once `started` */
	_Atomic bool started;
};

struct kvm {
	struct engine engine;
	int device; /* /dev/kvm: stays open for reboots */
	int vm;
	size_t run_size;	     /* bytes to map of each vCPU */
	unsigned slots;		     /* memory slots in use */
	struct kvm_cpuid2 *cpuid;    /* what every vCPU has, its number apart */
	pthread_mutex_t routes_lock; /* guards the two below */
	u32 level_pins;		     /* bit n: pin n is in the table */
	struct kvm_irq_routing_entry routes[GSI_COUNT];
	unsigned vcpu_count, vcpus_added;
	struct kvm_vcpu vcpus[];
};

/*
 * What the vCPUs are told about themselves: KVM's own list, corrected. NULL: out of memory, or KVM
 * will not say.
 */
struct kvm_cpuid2 *kvm_cpuid_new(const struct kvm *kvm);

/* The list as vCPU `index` sees it (it knows its own number) is given to KVM. -errno. */
int kvm_cpuid_set(const struct kvm *kvm, unsigned index);

/* Bits of a guest-physical address; and whether leaf 1 has all these bits in ECX. */
unsigned kvm_cpuid_address_bits(const struct kvm *kvm);
bool kvm_cpuid_has_features(const struct kvm *kvm, u32 ecx);

/* Make vCPU `index`, unless the probe already did. -errno with *problem filled. */
int kvm_vcpu_create(struct kvm *kvm, unsigned index, struct problem *problem);

/* Its registers: exactly these. -errno. */
int kvm_vcpu_set_state(const struct kvm_vcpu *vcpu, const struct cpu_state *state);

/* engine_ops.probe */
bool kvm_probe(struct engine *engine, struct problem *why);

#endif
