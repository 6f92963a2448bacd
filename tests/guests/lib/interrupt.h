/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interrupts: the table of them, the local APIC that takes them, and the IOAPIC
 * that sends them. Exceptions end the guest with a line that says where.
 *
 * A guest does not register handlers. It asks how often a vector came, which is all
 * that a test of a hypervisor wants to know.
 */
#ifndef LIB_INTERRUPT_H
#define LIB_INTERRUPT_H

#include "lib/guest.h"

#define VECTOR_FIRST	0x20 /* below are exceptions */
#define VECTOR_SPURIOUS 0xff

/* Registers of the local APIC, from LAYOUT_LAPIC on. */
#define LAPIC_ID	 0x20
#define LAPIC_TPR	 0x80
#define LAPIC_EOI	 0xb0
#define LAPIC_SPURIOUS	 0xf0
#define LAPIC_IRR	 0x200
#define LAPIC_ICR	 0x300
#define LAPIC_ICR_TARGET 0x310

#define LAPIC_LVT_TIMER	    0x320
#define LAPIC_LVT_LINT0	    0x350
#define LAPIC_TIMER_INITIAL 0x380
#define LAPIC_TIMER_CURRENT 0x390

#define LVT_MASKED    (1 << 16)
#define ICR_SELF      (1 << 18) /* shorthand for the CPU that sends */
#define LAPIC_ENABLED (1 << 8)	/* in LAPIC_SPURIOUS */
#define ICR_INIT      0x4500	/* INIT, assert */
#define ICR_STARTUP   0x4600	/* start-up, assert; the page is the vector */
#define ICR_PENDING   (1 << 12)

/* A redirection entry of the IOAPIC: the low byte is the vector. */
#define IOAPIC_ACTIVE_LOW (1 << 13)
#define IOAPIC_REMOTE_IRR (1 << 14)
#define IOAPIC_LEVEL	  (1 << 15)
#define IOAPIC_MASKED	  (1 << 16)

/* What vectors.S pushes, the CPU's part last. */
struct frame {
	u64 rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11;
	u64 vector, error;
	u64 rip, cs, rflags, rsp, ss;
};

/* An entry of the table (Intel SDM 3A, "64-Bit Mode IDT"). */
struct gate {
	u16 offset_low, selector;
	u8 stack, type;
	u16 offset_middle;
	u32 offset_high, reserved;
};

#define GATE_INTERRUPT 0x8e /* present, 64-bit interrupt gate */
#define GATE_TRAP      0x8f /* the same, and IF stays as it was */
#define GATE_PRESENT   0x80
#define GATE_USER      0x60 /* DPL 3 */

/* Loads the table, enables the local APIC, and lets interrupts in. */
void interrupt_init(void);

/* The same table on a further CPU, with its local APIC. */
void interrupt_join(void);

/* How often that vector was taken, by whichever CPU. */
unsigned interrupt_count(u8 vector);

/*
 * Called for each interrupt, before the local APIC is told that it is over. NULL: nothing to do.
 * One for all: it sees the vector.
 */
void interrupt_handler(void (*handler)(u8 vector));

/*
 * Asked first about everything that comes, exceptions too. True: that was all; the frame is what
 * the CPU returns to, and an end of interrupt was up to the hook.
 */
void interrupt_hook(bool (*hook)(struct frame *frame));

/* The table's entry, to be bent. */
struct gate *interrupt_gate(u8 vector);

/* Tell the local APIC that an interrupt was handled, in whichever of its modes it is. */
void interrupt_end(void);

/* Whether that vector waits in the local APIC. */
bool interrupt_waits(u8 vector);

static inline void interrupts_on(void)
{
	asm volatile("sti" : : : "memory");
}

static inline void interrupts_off(void)
{
	asm volatile("cli" : : : "memory");
}

static inline u32 lapic_read(u32 offset)
{
	return read32(LAYOUT_LAPIC + offset);
}

static inline void lapic_write(u32 offset, u32 value)
{
	write32(LAYOUT_LAPIC + offset, value);
}

/* The low half of a pin's entry. The write sends it to APIC id 0. */
u32 ioapic_read(unsigned pin);
void ioapic_write(unsigned pin, u32 low);

/* Any register of the IOAPIC. */
u32 ioapic_register(u8 index);

#endif
