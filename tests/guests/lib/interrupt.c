/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Taking interrupts and counting them.
 */
#include "lib/interrupt.h"
#include "lib/cpu.h"

#define IOAPIC_SELECT	   0x00
#define IOAPIC_WINDOW	   0x10
#define IOAPIC_REDIRECTION 0x10 /* two registers a pin */

/* In vectors.S: VECTOR_STUB_SIZE bytes of code for each vector. */
#define VECTOR_STUB_SIZE 16
extern const u8 vector_stubs[];

void interrupt_taken(struct frame *frame);

/* Interrupts come out of nowhere and pass no arguments, so this is where they are kept. */
static struct {
	struct gate table[256];
	volatile unsigned count[256];
	void (*handler)(u8 vector);
	bool (*hook)(struct frame *frame);
} interrupts;

void interrupt_taken(struct frame *frame)
{
	u8 vector = (u8)frame->vector;
	u64 address;

	if (interrupts.hook && interrupts.hook(frame))
		return;
	if (vector < VECTOR_FIRST) {
		asm volatile("mov %%cr2, %0" : "=r"(address));
		give_up("no exception (vector %u, error %lx, rip %lx, cr2 %lx)", vector,
			frame->error, frame->rip, address);
	}
	__sync_fetch_and_add(&interrupts.count[vector], 1);
	if (interrupts.handler)
		interrupts.handler(vector);
	if (vector != VECTOR_SPURIOUS)
		interrupt_end();
}

void interrupt_join(void)
{
	const struct {
		u16 limit;
		u64 base;
	} __attribute__((packed)) pointer = {sizeof(interrupts.table) - 1, (u64)interrupts.table};

	asm volatile("lidt %0" : : "m"(pointer));
	lapic_write(LAPIC_SPURIOUS, LAPIC_ENABLED | VECTOR_SPURIOUS);
	lapic_write(LAPIC_TPR, 0);
	/*
	 * Where there is an old PIC, it has a wire to the first CPU, and uses vectors of
	 * exceptions.
	 */
	lapic_write(LAPIC_LVT_LINT0, LVT_MASKED);
	interrupts_on();
}

void interrupt_init(void)
{
	for (unsigned i = 0; i < 256; i++) {
		u64 stub = (u64)vector_stubs + i * VECTOR_STUB_SIZE;

		interrupts.table[i] = (struct gate){
			.offset_low = (u16)stub,
			.offset_middle = (u16)(stub >> 16),
			.selector = SEGMENT_CODE64,
			.type = GATE_INTERRUPT,
		};
	}
	interrupt_join();
}

unsigned interrupt_count(u8 vector)
{
	return interrupts.count[vector];
}

void interrupt_handler(void (*handler)(u8 vector))
{
	interrupts.handler = handler;
}

void interrupt_hook(bool (*hook)(struct frame *frame))
{
	interrupts.hook = hook;
}

struct gate *interrupt_gate(u8 vector)
{
	return &interrupts.table[vector];
}

void interrupt_end(void)
{
	/* Its registers are MSRs in x2APIC mode, in the same order, one for each slot of 16 bytes.
	 */
	if (rdmsr(MSR_APIC_BASE) & APIC_BASE_X2APIC)
		wrmsr(MSR_X2APIC + LAPIC_EOI / 16, 0);
	else
		lapic_write(LAPIC_EOI, 0);
}

bool interrupt_waits(u8 vector)
{
	/* 256 bits in eight registers of 32, each in a slot of 16 bytes. */
	return lapic_read(LAPIC_IRR + vector / 32 * 16) >> vector % 32 & 1;
}

u32 ioapic_register(u8 index)
{
	write32(LAYOUT_IOAPIC + IOAPIC_SELECT, index);
	return read32(LAYOUT_IOAPIC + IOAPIC_WINDOW);
}

u32 ioapic_read(unsigned pin)
{
	return ioapic_register((u8)(IOAPIC_REDIRECTION + 2 * pin));
}

void ioapic_write(unsigned pin, u32 low)
{
	write32(LAYOUT_IOAPIC + IOAPIC_SELECT, IOAPIC_REDIRECTION + 2 * pin + 1);
	write32(LAYOUT_IOAPIC + IOAPIC_WINDOW, 0);
	write32(LAYOUT_IOAPIC + IOAPIC_SELECT, IOAPIC_REDIRECTION + 2 * pin);
	write32(LAYOUT_IOAPIC + IOAPIC_WINDOW, low);
}
