/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How interrupts get to the CPU: from the local APIC itself, from the serial port by an edge
 * at the IOAPIC, from the virtio console by a level there, and by MSI-X.
 *
 *   intx=N	the console's pin of the IOAPIC, where it is not the one of our board
 *   config=1	breaks a rule at the end, to see the configuration interrupt that follows
 */
#include "lib/interrupt.h"
#include "lib/guest.h"
#include "lib/pci.h"
#include "lib/virtio.h"

#include <linux/pci_regs.h>
#include <linux/serial_reg.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>

#define QUEUE_SIZE 16
#define ISR_QUEUE  1

enum {
	VECTOR_SELF = 0x30,
	VECTOR_TIMER = 0x41,
	VECTOR_SERIAL = 0x52,
	VECTOR_INTX = 0x63,
	VECTOR_CONFIG = 0x74,
	VECTOR_RX = 0x75,
	VECTOR_TX = 0x76,
	VECTOR_OTHER = 0x87,
};

#define IOAPIC_ID      0
#define IOAPIC_VERSION 1

/*
 * The message that interrupts the CPU with APIC id 0 (Intel SDM 3A, "Message Address Register
 * Format").
 */
#define MSI_ADDRESS LAYOUT_LAPIC

/* What the handler knows about, because nobody passes it anything. */
static struct {
	struct virtio console;
	unsigned intx_pin;
	unsigned ignore; /* how many INTx interrupts to leave unanswered */
	u8 isr;		 /* of all that were answered */
	bool remote_irr; /* the IOAPIC knows that a level interrupt is being handled */
	u8 serial_cause; /* IIR at the last serial interrupt */
} state;

static void on_interrupt(u8 vector)
{
	if (vector == VECTOR_SERIAL)
		state.serial_cause = in8(PORT_SERIAL + UART_IIR);
	if (vector != VECTOR_INTX)
		return;
	state.remote_irr = ioapic_read(state.intx_pin) & IOAPIC_REMOTE_IRR;
	if (state.ignore)
		state.ignore--;
	else
		state.isr |= read8(state.console.isr.address);
}

/* The vector comes `count` times more than it had come before, and not once more. */
static void expect(u8 vector, unsigned before, unsigned count, const char *what)
{
	if (count)
		wait_for(interrupt_count(vector) - before >= count);
	linger();
	check_equal(interrupt_count(vector) - before, count, "%s", what);
}

static void check_local(void)
{
	unsigned before = interrupt_count(VECTOR_SELF);

	lapic_write(LAPIC_ICR, ICR_SELF | VECTOR_SELF);
	expect(VECTOR_SELF, before, 1, "a message to oneself arrives");

	before = interrupt_count(VECTOR_SELF);
	interrupts_off();
	lapic_write(LAPIC_ICR, ICR_SELF | VECTOR_SELF);
	check(wait_for(interrupt_waits(VECTOR_SELF)), "it waits while interrupts are off");
	lapic_write(LAPIC_ICR, ICR_SELF | VECTOR_SELF);
	check_equal(interrupt_count(VECTOR_SELF), before, "and is not taken");
	interrupts_on();
	expect(VECTOR_SELF, before, 1, "two that waited together are one");

	/*
	 * With sti, the instruction after it still runs: nothing can come between the two, and hlt
	 * must wake up.
	 */
	before = interrupt_count(VECTOR_TIMER);
	interrupts_off();
	lapic_write(LAPIC_LVT_TIMER, VECTOR_TIMER);
	lapic_write(LAPIC_TIMER_INITIAL, 1000000);
	asm volatile("sti; hlt" : : : "memory");
	expect(VECTOR_TIMER, before, 1, "the local timer wakes a halted CPU");
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED);
}

static void check_ioapic(void)
{
	u32 version = ioapic_register(IOAPIC_VERSION);

	check((version & 0xff) >= 0x11 && (version & 0xff) < 0x30, "IOAPIC: version %x",
	      version & 0xff);
	check_equal((version >> 16 & 0xff) + 1, GSI_COUNT, "IOAPIC: number of pins");
	for (unsigned pin = 0; pin < GSI_COUNT; pin++)
		if (!(ioapic_read(pin) & IOAPIC_MASKED))
			check(false, "IOAPIC: pin %u is masked at power-on", pin);
	ioapic_write(GSI_RTC, IOAPIC_MASKED | IOAPIC_LEVEL | IOAPIC_ACTIVE_LOW | VECTOR_OTHER |
				      IOAPIC_REMOTE_IRR);
	check_equal(ioapic_read(GSI_RTC),
		    IOAPIC_MASKED | IOAPIC_LEVEL | IOAPIC_ACTIVE_LOW | VECTOR_OTHER,
		    "IOAPIC: an entry reads back, less what is read-only");
	ioapic_write(GSI_RTC, IOAPIC_MASKED);
}

/*
 * The transmitter is empty as soon as it is asked: an interrupt for each time that THRI is switched
 * on or a byte sent.
 */
static void check_serial_edge(void)
{
	unsigned before = interrupt_count(VECTOR_SERIAL);

	out8(PORT_SERIAL + UART_FCR,
	     UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT);
	out8(PORT_SERIAL + UART_MCR, UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT2);
	ioapic_write(GSI_SERIAL, VECTOR_SERIAL);
	out8(PORT_SERIAL + UART_IER, UART_IER_THRI);
	check(wait_for(interrupt_count(VECTOR_SERIAL) == before + 1),
	      "serial: transmitter empty, as soon as enabled");
	check_equal(state.serial_cause & 0x0f, UART_IIR_THRI, "serial: which IIR says");
	check_equal(in8(PORT_SERIAL + UART_IIR) & 0x0f, UART_IIR_NO_INT, "serial: once");

	before = interrupt_count(VECTOR_SERIAL);
	out8(PORT_SERIAL + UART_IER, 0);
	ioapic_write(GSI_SERIAL, VECTOR_SERIAL | IOAPIC_MASKED);
	out8(PORT_SERIAL + UART_IER, UART_IER_THRI);
	linger();
	out8(PORT_SERIAL + UART_IER, 0);
	ioapic_write(GSI_SERIAL, VECTOR_SERIAL);
	expect(VECTOR_SERIAL, before, 0, "serial: nothing arrives through a masked pin");
	in8(PORT_SERIAL + UART_IIR);
}

/*
 * Receiving, without anybody who sends: in loopback mode, where the trigger level can be seen at
 * work.
 */
static void check_serial_fifo(void)
{
	unsigned before = interrupt_count(VECTOR_SERIAL), waiting = 0;
	u8 bytes[16], status;
	bool same = true;

	out8(PORT_SERIAL + UART_FCR,
	     UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR | UART_FCR_TRIGGER_8);
	out8(PORT_SERIAL + UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS | UART_MCR_DTR);
	for (u8 i = 0; i < sizeof(bytes); i++)
		out8(PORT_SERIAL + UART_TX, 'a' + i);
	out8(PORT_SERIAL + UART_IER, UART_IER_RDI);
	wait_for(interrupt_count(VECTOR_SERIAL) != before);
	status = state.serial_cause;
	out8(PORT_SERIAL + UART_IER, 0);
	while ((in8(PORT_SERIAL + UART_LSR) & UART_LSR_DR) && waiting < sizeof(bytes))
		bytes[waiting++] = in8(PORT_SERIAL + UART_RX);
	out8(PORT_SERIAL + UART_MCR, UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT2);
	out8(PORT_SERIAL + UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);

	for (unsigned i = 0; i < waiting; i++)
		same &= bytes[i] == 'a' + i;
	check(interrupt_count(VECTOR_SERIAL) != before, "serial: a full FIFO interrupts");
	check_equal(status & 0x0f, UART_IIR_RDI, "serial: and IIR says why");
	check_equal(waiting, sizeof(bytes), "serial: the FIFO holds 16 bytes");
	check(same, "serial: and gives them back in order");
	ioapic_write(GSI_SERIAL, IOAPIC_MASKED);
}

static void send(const char *text)
{
	if (!console_send(&state.console, text))
		give_up("the console takes text");
}

/*
 * Level-triggered: as long as the ISR was not read, the pin is asserted, and each end of interrupt
 * brings another.
 */
static void check_intx(void)
{
	const u32 entry = VECTOR_INTX | IOAPIC_LEVEL;
	struct virtio *v = &state.console;
	unsigned before = interrupt_count(VECTOR_INTX);
	u16 command = pci_read16(v->slot, PCI_COMMAND);

	virtio_start(v, FEATURE(VIRTIO_F_VERSION_1), QUEUE_SIZE);
	ioapic_write(state.intx_pin, entry);
	send("hvc: INTx\n");
	expect(VECTOR_INTX, before, 1, "INTx: one interrupt for a used buffer");
	check_equal(state.isr, ISR_QUEUE, "INTx: the ISR says what it is");
	check(state.remote_irr, "INTx: the IOAPIC waits for the end of the interrupt");
	check(!(ioapic_read(state.intx_pin) & IOAPIC_REMOTE_IRR), "INTx: and has seen it");

	before = interrupt_count(VECTOR_INTX);
	state.ignore = 3;
	send("hvc: INTx, three times ignored\n");
	expect(VECTOR_INTX, before, 4, "INTx: it comes again until the ISR is read");

	before = interrupt_count(VECTOR_INTX);
	ioapic_write(state.intx_pin, entry | IOAPIC_MASKED);
	send("hvc: INTx, masked\n");
	expect(VECTOR_INTX, before, 0, "INTx: nothing while the pin is masked");
	ioapic_write(state.intx_pin, entry);
	expect(VECTOR_INTX, before, 1, "INTx: it comes when the pin is unmasked");

	before = interrupt_count(VECTOR_INTX);
	ioapic_write(state.intx_pin, entry | IOAPIC_MASKED);
	send("hvc: INTx, gone before anybody looked\n");
	check(wait_for(read8(v->isr.address)), "INTx: the ISR is read by polling");
	ioapic_write(state.intx_pin, entry);
	expect(VECTOR_INTX, before, 0, "INTx: what was answered meanwhile does not come any more");

	before = interrupt_count(VECTOR_INTX);
	pci_write16(v->slot, PCI_COMMAND, command | PCI_COMMAND_INTX_DISABLE);
	send("hvc: INTx, disabled\n");
	expect(VECTOR_INTX, before, 0, "INTx: nothing while the command register disables it");
	pci_write16(v->slot, PCI_COMMAND, command & ~PCI_COMMAND_INTX_DISABLE);
	expect(VECTOR_INTX, before, 1, "INTx: it comes when that is over");

	before = interrupt_count(VECTOR_INTX);
	interrupts_off();
	send("hvc: INTx, and a reset\n");
	wait_for(interrupt_waits(VECTOR_INTX));
	virtio_reset(v);
	interrupts_on();
	linger();
	check(interrupt_count(VECTOR_INTX) - before <= 1, "INTx: a reset lets go of the pin");
	ioapic_write(state.intx_pin, IOAPIC_MASKED);
}

/* The table and the pending bits of MSI-X. */
struct msix {
	unsigned capability;
	u64 table, pending;
};

static void msix_set(const struct msix *msix, unsigned vector, u8 interrupt, bool masked)
{
	u64 entry = msix->table + vector * PCI_MSIX_ENTRY_SIZE;

	write32(entry + PCI_MSIX_ENTRY_VECTOR_CTRL, PCI_MSIX_ENTRY_CTRL_MASKBIT);
	write32(entry + PCI_MSIX_ENTRY_LOWER_ADDR, MSI_ADDRESS);
	write32(entry + PCI_MSIX_ENTRY_UPPER_ADDR, 0);
	write32(entry + PCI_MSIX_ENTRY_DATA, interrupt);
	write32(entry + PCI_MSIX_ENTRY_VECTOR_CTRL, masked ? PCI_MSIX_ENTRY_CTRL_MASKBIT : 0);
}

static void msix_mask(const struct msix *msix, unsigned vector, bool masked)
{
	write32(msix->table + vector * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_VECTOR_CTRL,
		masked ? PCI_MSIX_ENTRY_CTRL_MASKBIT : 0);
}

static bool msix_pending(const struct msix *msix, unsigned vector)
{
	return read32(msix->pending) >> vector & 1;
}

static void msix_control(const struct msix *msix, u16 bits)
{
	pci_write16(state.console.slot, msix->capability + PCI_MSIX_FLAGS, bits);
}

static void msix_find(struct msix *msix)
{
	unsigned slot = state.console.slot;
	u32 table, pending;

	msix->capability = pci_find_capability(slot, PCI_CAP_ID_MSIX, 0);
	if (!msix->capability)
		give_up("there is an MSI-X capability");
	table = pci_read32(slot, msix->capability + PCI_MSIX_TABLE);
	pending = pci_read32(slot, msix->capability + PCI_MSIX_PBA);
	msix->table = pci_bar(slot, table & PCI_MSIX_TABLE_BIR) + (table & PCI_MSIX_TABLE_OFFSET);
	msix->pending = pci_bar(slot, pending & PCI_MSIX_PBA_BIR) + (pending & PCI_MSIX_PBA_OFFSET);
}

static void set_vectors(u16 config, u16 rx, u16 tx)
{
	const struct virtio *v = &state.console;

	virtio_write16(v, VIRTIO_PCI_COMMON_MSIX, config);
	virtio_write16(v, VIRTIO_PCI_COMMON_Q_SELECT, CONSOLE_RX);
	virtio_write16(v, VIRTIO_PCI_COMMON_Q_MSIX, rx);
	virtio_write16(v, VIRTIO_PCI_COMMON_Q_SELECT, CONSOLE_TX);
	virtio_write16(v, VIRTIO_PCI_COMMON_Q_MSIX, tx);
	check_equal(virtio_read16(v, VIRTIO_PCI_COMMON_Q_MSIX), tx, "MSI-X: a vector reads back");
}

static void check_msix_vectors(const struct msix *msix)
{
	struct virtio *v = &state.console;
	unsigned before = interrupt_count(VECTOR_TX);
	unsigned intx = interrupt_count(VECTOR_INTX);

	ioapic_write(state.intx_pin, VECTOR_INTX | IOAPIC_LEVEL);
	virtio_start(v, FEATURE(VIRTIO_F_VERSION_1), QUEUE_SIZE);
	for (unsigned i = 0; i < 3; i++)
		msix_set(msix, i, (u8)(VECTOR_CONFIG + i), false);
	msix_control(msix, PCI_MSIX_FLAGS_ENABLE);
	set_vectors(0, 1, 2);
	send("hvc: MSI-X\n");
	expect(VECTOR_TX, before, 1, "MSI-X: the vector of the transmit queue");
	check_equal(interrupt_count(VECTOR_RX) + interrupt_count(VECTOR_CONFIG), 0,
		    "MSI-X: and no other");
	check_equal(interrupt_count(VECTOR_INTX), intx, "MSI-X: and not INTx");
	check_equal(read8(v->isr.address), 0, "MSI-X: the ISR has nothing to say");

	before = interrupt_count(VECTOR_RX);
	set_vectors(0, 1, 1);
	send("hvc: MSI-X, a shared vector\n");
	expect(VECTOR_RX, before, 1, "MSI-X: queues may share a vector");

	before = interrupt_count(VECTOR_TX);
	set_vectors(0, 1, VIRTIO_MSI_NO_VECTOR);
	send("hvc: MSI-X, no vector\n");
	expect(VECTOR_TX, before, 0, "MSI-X: nothing is sent without a vector");
	check_equal(interrupt_count(VECTOR_INTX), intx, "MSI-X: nor by INTx");
	set_vectors(0, 1, 2);
}

static void check_msix_masks(const struct msix *msix)
{
	unsigned before = interrupt_count(VECTOR_TX), other = interrupt_count(VECTOR_OTHER);

	msix_mask(msix, 2, true);
	check(!msix_pending(msix, 2), "MSI-X: nothing is pending yet");
	send("hvc: MSI-X, a masked vector\n");
	expect(VECTOR_TX, before, 0, "MSI-X: a masked vector is not sent");
	check(msix_pending(msix, 2), "MSI-X: but pending");
	msix_mask(msix, 2, false);
	expect(VECTOR_TX, before, 1, "MSI-X: and sent when it is unmasked");
	check(!msix_pending(msix, 2), "MSI-X: it is not pending any more");

	before = interrupt_count(VECTOR_TX);
	msix_control(msix, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	send("hvc: MSI-X, all masked\n");
	expect(VECTOR_TX, before, 0, "MSI-X: all vectors can be masked together");
	check(msix_pending(msix, 2), "MSI-X: and are pending then as well");
	msix_control(msix, PCI_MSIX_FLAGS_ENABLE);
	expect(VECTOR_TX, before, 1, "MSI-X: and sent");

	msix_mask(msix, 2, true);
	before = interrupt_count(VECTOR_TX);
	send("hvc: MSI-X, moved while masked\n");
	check(wait_for(msix_pending(msix, 2)), "MSI-X: pending once more");
	msix_set(msix, 2, VECTOR_OTHER, false);
	expect(VECTOR_OTHER, other, 1, "MSI-X: what is pending goes where the entry points now");
	check_equal(interrupt_count(VECTOR_TX), before, "MSI-X: and not where it pointed");
	msix_set(msix, 2, VECTOR_TX, false);
}

/* PCI-7: all this is optional; a driver may go back. */
static void check_msix_off(const struct msix *msix)
{
	unsigned before, tx;

	msix_control(msix, 0);
	before = interrupt_count(VECTOR_INTX);
	tx = interrupt_count(VECTOR_TX);
	send("hvc: INTx again\n");
	expect(VECTOR_INTX, before, 1, "INTx works again once MSI-X is off");
	check_equal(interrupt_count(VECTOR_TX), tx, "and MSI-X does not");
	ioapic_write(state.intx_pin, IOAPIC_MASKED);
}

/*
 * The one event that a console has to tell and a guest can bring about: that the driver is no good.
 */
static void check_config_interrupt(const struct msix *msix)
{
	unsigned before = interrupt_count(VECTOR_CONFIG);

	virtio_start(&state.console, FEATURE(VIRTIO_F_VERSION_1), QUEUE_SIZE);
	msix_control(msix, PCI_MSIX_FLAGS_ENABLE);
	set_vectors(0, 1, 2);
	virtio_write16(&state.console, VIRTIO_PCI_COMMON_NUMQ, 7);
	expect(VECTOR_CONFIG, before, 1, "MSI-X: the vector for configuration changes");
	virtio_reset(&state.console);
	msix_control(msix, 0);
}

void guest_main(const struct boot *boot)
{
	struct msix msix;
	char value[8];

	virtio_find(&state.console, SLOT_VIRTIO_CONSOLE);
	state.intx_pin = GSI_INTX + SLOT_VIRTIO_CONSOLE % GSI_INTX_COUNT;
	if (boot_option(boot, "intx", value, sizeof(value)))
		state.intx_pin = (unsigned)(value[0] - '0') * 10 + (unsigned)(value[1] - '0');
	interrupt_handler(on_interrupt);
	interrupt_init();

	check_local();
	check_ioapic();
	check_serial_edge();
	check_serial_fifo();
	check_intx();
	msix_find(&msix);
	check_msix_vectors(&msix);
	check_msix_masks(&msix);
	check_msix_off(&msix);
	if (boot_option(boot, "config", value, sizeof(value)))
		check_config_interrupt(&msix);
}
