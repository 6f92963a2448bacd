/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the KVM engine share.
 *
 * Tour 5.110
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

	/* debug.c's, under its lock. */
	enum debug_action action; /* DEBUG_RUN, unless a debugger says otherwise */
	bool in_run, stopped;
	bool stepping; /* what resume() said; changes only while it is stopped */
};

#define KVM_DEBUG_REGISTERS 4
#define KVM_PATCHES	    1024

/* A debug register of the processor's that is ours. */
struct kvm_hard_point {
	bool used;
	u8 type, length_code; /* as in DR7 */
	u64 address;	      /* of the piece that it watches */
	struct debug_point point;
};

/* An int3 of ours. */
struct kvm_patch {
	struct debug_point point;
	u64 gpa;
	u8 old; /* what the guest had there */
};

struct kvm_debug {
	struct debugger *debugger; /* NULL: nobody wants to debug */
	bool can_block_interrupts; /* in a single step */
	pthread_mutex_t lock;
	pthread_cond_t changed; /* who is stopped, or who may go on */
	unsigned patch_count;
	struct kvm_patch patches[KVM_PATCHES];
	struct kvm_hard_point hard[KVM_DEBUG_REGISTERS];
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
	struct kvm_debug debug;
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

/* One MSR: KVM_GET_MSRS or KVM_SET_MSRS. -errno. */
int kvm_access_msr(const struct kvm_vcpu *vcpu, unsigned long request, u32 index, u64 *value);

/* debug.c: the operations, and what the rest of the engine does for them */
extern const struct debug_ops kvm_debug;
void kvm_debug_init(struct kvm *kvm);
void kvm_debug_destroy(struct kvm *kvm);
void kvm_debug_forget(struct kvm *kvm); /* the machine is new: there are no points */
/* Where there is a debugger: a vCPU's thread begins and ends to run. */
void kvm_debug_enter(struct kvm *kvm, unsigned index);
void kvm_debug_leave(struct kvm *kvm, unsigned index);
/* KVM_RUN has said EINTR: wait, if it is to be stopped. */
void kvm_debug_gate(struct kvm *kvm, unsigned index);
/* KVM_EXIT_DEBUG */
void kvm_debug_exit(struct kvm *kvm, unsigned index);
/* The machine no longer runs: who waits at the gate looks up. */
void kvm_debug_wake(struct kvm *kvm);

/* engine_ops.probe */
bool kvm_probe(struct engine *engine, struct problem *why);

#endif
