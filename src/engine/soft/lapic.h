/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of the local APIC: what its three files share. Everybody else's questions are in
 * internal.h.
 *
 *   lapic.c           registers, and what the vCPU's thread takes from it
 *   lapic_messages.c  who gets what is sent, and what becomes of it there
 *   lapic_timer.c     the timer
 *
 * Tour 6.600: The local APIC
 */
#ifndef ENGINE_SOFT_LAPIC_H
#define ENGINE_SOFT_LAPIC_H

#include "engine/soft/internal.h"

/* In the order of their registers. */
enum { LVT_TIMER, LVT_THERMAL, LVT_COUNTERS, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

#define SVR_ENABLE (1u << 8)

#define LVT_VECTOR     0xffu
#define LVT_DELIVERY   (7u << 8)
#define LVT_STATUS     (1u << 12) /* read-only */
#define LVT_POLARITY   (1u << 13)
#define LVT_REMOTE_IRR (1u << 14) /* read-only */
#define LVT_LEVEL      (1u << 15)
#define LVT_MASKED     (1u << 16)
#define LVT_MODE_SHIFT 17
#define LVT_MODE       (3u << LVT_MODE_SHIFT)
#define LVT_READ_ONLY  (LVT_STATUS | LVT_REMOTE_IRR)

#define LDR_SHIFT    24 /* of an id in memory-mapped registers */
#define DFR_FLAT     0xfu
#define DFR_SHIFT    28
#define DFR_RESERVED 0x0fffffffu /* all ones */

/* Errors: Intel SDM 3A, "Error Status Register". */
#define ERROR_SEND_ILLEGAL     (1u << 5)
#define ERROR_RECEIVE_ILLEGAL  (1u << 6)
#define ERROR_ILLEGAL_REGISTER (1u << 7)

/* Vectors below are exceptions' and illegal for an interrupt. */
#define VECTOR_FIRST 16

/* The interrupt command register, lower half; and what an MSI's data has in the same places. */
#define ICR_VECTOR	    0xffu
#define ICR_MODE_SHIFT	    8
#define ICR_LOGICAL	    (1u << 11)
#define ICR_ASSERT	    (1u << 14)
#define ICR_LEVEL	    (1u << 15)
#define ICR_SHORTHAND_SHIFT 18
#define ICR_WRITABLE                                                                               \
	(ICR_VECTOR | 7u << ICR_MODE_SHIFT | ICR_LOGICAL | ICR_ASSERT | ICR_LEVEL |                \
	 3u << ICR_SHORTHAND_SHIFT)

/* What waits for the vCPU's thread. */
#define EVENT_NMI	   (1u << 0)
#define EVENT_INIT	   (1u << 1)
#define EVENT_SIPI	   (1u << 2) /* behind EVENT_INIT, if that is there too */
#define EVENT_ERROR	   (1u << 3)
#define EVENT_VECTOR_SHIFT 8 /* the SIPI's */
#define EVENT_VECTOR	   (0xffu << EVENT_VECTOR_SHIFT)

enum mode { APIC_OFF, APIC_XAPIC, APIC_X2APIC };

/* One bit for each vector. */
#define WORDS	  4
#define WORD_BITS 64

#define NEVER UINT64_MAX

struct lapic {
	struct vcpu *vcpu;

	/* Any thread. */
	_Atomic u64 requested[WORDS]; /* IRR */
	_Atomic u64 level[WORDS];     /* TMR: whose end the IOAPIC wants to know */
	_Atomic u32 events;	      /* EVENT_* */
	_Atomic u32 errors;	      /* since ESR was last written */

	/* Written by the vCPU's thread, read by any. */
	_Atomic u32 mode;
	_Atomic u32 svr, tpr, ldr, dfr;

	/* The vCPU's thread only. */
	u64 in_service[WORDS]; /* ISR */
	u32 error_status;
	u64 icr;
	u32 lvt[LVT_COUNT];

	u32 initial, divide;
	bool counting; /* one-shot and periodic: from `started` on */
	u64 started;   /* host TSC */
	u64 periods;   /* since then, that have rung */
	u64 deadline;  /* guest TSC; 0: none */
	u64 armed_for; /* host TSC; NEVER: the host's timer is off */
	u64 armed_since;
};

static inline u64 vector_bit(u8 vector)
{
	return 1ull << vector % WORD_BITS;
}

/* ------------------------------------------------------------------ lapic_messages.c */

/* That interrupt is requested of this one; any thread. */
void lapic_request(struct lapic *lapic, u8 vector, bool level);
void lapic_report_error(struct lapic *lapic, u32 error);
/* What the guest has written to ICR. */
void lapic_send_command(struct lapic *lapic);

/* ------------------------------------------------------------------ lapic_timer.c */

/* Look at the clock, and have the host's timer ring when it is due. */
void lapic_timer_update(struct lapic *lapic);
/* As after power-up; LVT is masked already. */
void lapic_timer_reset(struct lapic *lapic);
u32 lapic_timer_current(const struct lapic *lapic);
void lapic_timer_set_lvt(struct lapic *lapic, u32 value);
void lapic_timer_set_initial(struct lapic *lapic, u32 value);
void lapic_timer_set_divide(struct lapic *lapic, u32 value);

#endif
