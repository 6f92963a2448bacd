/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest that the I/O benchmark times: a driver for one virtio disk or network,
 * which does what it is told on its command line and counts what it cost.
 *
 *   job=read|write size=BYTES depth=N count=N [span=BYTES]	a disk
 *   job=send size=BYTES [gso=1] count=N			a network
 *   job=receive count=N
 *
 * It says "load: ready" and waits for a byte on the serial port; then "load: begin"
 * and, when all is done, "load: end REQUESTS KICKS INTERRUPTS": whoever reads that has
 * the clock. The loop runs as a user with I/O privileges, so
 * that hypervisors on which only the kernel is slow are not judged by that; to wait,
 * it asks the kernel, which halts until an interrupt. Rings are split ones with
 * EVENT_IDX, as every hypervisor has them.
 */
#include "lib/cpu.h"
#include "lib/pci.h"
#include "lib/trap.h"
#include "lib/virtio.h"

#include <linux/pci_regs.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <linux/virtio_pci.h>

#define VIRTIO_VENDOR 0x1af4
#define VIRTIO_ID     0x1040

#define VECTOR_QUEUE 0x40
#define VECTOR_WAIT                                                                                \
	0x81 /* INT: the user has nothing to do before the device has done something               \
	      */

#define RING	   256
#define SLOT_DESCS 3 /* a disk request: header, data, status */
#define DEPTH_MAX  (RING / SLOT_DESCS)
#define SECTOR	   512
/* The masks of a PC's old interrupt controllers, which a peer's firmware leaves running. */
#define PORT_PIC_MASK	0x21
#define PORT_PIC_MASK_2 0xa1
#define BUFFERS		MiB(16) /* where buffers begin: far behind the program */
#define RECEIVE		2048	/* bytes of a receive buffer */

#define NET_RX	   0
#define NET_TX	   1
#define NET_HEADER 12

static struct {
	struct virtio virtio;
	u64 notify; /* address */
	u64 requests, kicks;
	char job[16];
	u64 size, depth, count, span, gso;
	u32 random;
} io;

static u64 number_option(const struct boot *boot, const char *name, u64 otherwise)
{
	char text[24];
	u64 value = 0;

	if (!boot_option(boot, name, text, sizeof(text)))
		return otherwise;
	for (const char *at = text; *at >= '0' && *at <= '9'; at++)
		value = value * 10 + (u64)(*at - '0');
	return value;
}

/* Numerical Recipes' generator, upper bits: good enough to defeat read-ahead. */
static u64 random_below(u64 limit)
{
	io.random = io.random * 1664525 + 1013904223;
	return (io.random >> 4) % limit;
}

/* Interrupts and waiting */

static struct ring *const waited[] = {&io.virtio.rings[0], &io.virtio.rings[1]};

/*
 * The kernel's part: STI lets no interrupt in before HLT, so none that comes after the look is
 * missed.
 */
static bool on_trap(struct frame *frame)
{
	if (frame->vector != VECTOR_WAIT)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(waited); i++)
		if (waited[i]->size && ring_has_used(waited[i]))
			return true;
	asm volatile("sti; hlt; cli" : : : "memory");
	return true;
}

static void wait_for_used(struct ring *ring)
{
	*ring_used_event(ring) = ring->used_seen;
	__sync_synchronize();
	while (!ring_has_used(ring))
		asm volatile("int %0" : : "i"(VECTOR_WAIT) : "memory");
}

/* The device wants to hear of what was offered since `before`, or it does not. */
static void kick(struct ring *ring, u16 before)
{
	if (before == ring->available ||
	    !vring_need_event(*ring_avail_event(ring), ring->available, before))
		return;
	io.kicks++;
	write16(io.notify, (u16)ring->index);
}

/* Disks */

static struct virtio_blk_outhdr headers[DEPTH_MAX];
static volatile u8 statuses[DEPTH_MAX];

static void *buffer_of(u64 slot)
{
	return (void *)(BUFFERS + slot * io.size);
}

static void submit(struct ring *ring, unsigned slot, u64 *next)
{
	const bool writes = !strcmp(io.job, "write");
	const u16 head = (u16)(slot * SLOT_DESCS);
	/* Small requests are anywhere, large ones one after the other. */
	const u64 place = io.size < MiB(1) ? random_below(io.span / io.size)
					   : (*next)++ % (io.span / io.size);

	headers[slot] = (struct virtio_blk_outhdr){
		.type = writes ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN,
		.sector = place * io.size / SECTOR,
	};
	statuses[slot] = 0xff;
	ring_describe(ring, head, &headers[slot], sizeof(headers[slot]), VRING_DESC_F_NEXT,
		      (u16)(head + 1));
	ring_describe(ring, (u16)(head + 1), buffer_of(slot), (u32)io.size,
		      VRING_DESC_F_NEXT | (writes ? 0 : VRING_DESC_F_WRITE), (u16)(head + 2));
	ring_describe(ring, (u16)(head + 2), (void *)&statuses[slot], 1, VRING_DESC_F_WRITE, 0);
	ring_offer(ring, head);
}

static void run_disk(void)
{
	struct ring *ring = &io.virtio.rings[0];
	u64 submitted = 0, next = 0;
	u16 before = 0;

	while (submitted < MIN(io.depth, io.count))
		submit(ring, (unsigned)submitted++, &next);
	while (io.requests < io.count) {
		kick(ring, before);
		before = ring->available;
		wait_for_used(ring);
		while (ring_has_used(ring)) {
			u16 head;
			u32 len;

			ring_take(ring, &head, &len);
			if (statuses[head / SLOT_DESCS] != VIRTIO_BLK_S_OK)
				give_up("the disk does as it was told");
			io.requests++;
			if (submitted++ < io.count)
				submit(ring, head / SLOT_DESCS, &next);
		}
	}
}

/* Networks */

/* A frame to nobody: an EtherType for local experiments, or a TCP segment that is to be cut up. */
static u32 make_frame(u8 *frame)
{
	struct virtio_net_hdr_mrg_rxbuf *header = (void *)frame;
	u8 *ethernet = frame + NET_HEADER, *ip = ethernet + 14, *tcp = ip + 20;
	const u32 length = (u32)io.size;

	memset(frame, 0, NET_HEADER + io.size);
	memcpy(ethernet, (const u8[]){2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5}, 14);
	if (io.gso) {
		const u32 ip_length = length - 14;

		header->hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		header->hdr.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
		header->hdr.hdr_len = 14 + 20 + 20;
		header->hdr.gso_size = 1448;
		header->hdr.csum_start = 14 + 20;
		header->hdr.csum_offset = 16;
		ethernet[12] = 0x08;
		ethernet[13] = 0x00;
		ip[0] = 0x45;
		ip[2] = (u8)(ip_length >> 8);
		ip[3] = (u8)ip_length;
		ip[8] = 64;
		ip[9] = 6;
		memcpy(ip + 12, (const u8[]){192, 0, 2, 1, 192, 0, 2, 2}, 8);
		tcp[12] = 5 << 4;
	}
	return NET_HEADER + length;
}

static void run_send(void)
{
	struct ring *ring = &io.virtio.rings[NET_TX];
	u8 *frame = (u8 *)BUFFERS;
	const u32 length = make_frame(frame);
	u64 sent = 0;

	for (unsigned i = 0; i < RING; i++)
		ring_describe(ring, (u16)i, frame, length, 0, 0);
	while (io.requests < io.count) {
		const u16 before = ring->available;

		while (sent < io.count && sent - io.requests < RING)
			ring_offer(ring, (u16)(sent++ % RING));
		kick(ring, before);
		wait_for_used(ring);
		io.requests += (u16)(ring->used->idx - ring->used_seen);
		ring->used_seen = ring->used->idx;
	}
}

static void run_receive(void)
{
	struct ring *ring = &io.virtio.rings[NET_RX];
	u16 before = 0;

	for (unsigned i = 0; i < RING; i++) {
		ring_describe(ring, (u16)i, (u8 *)BUFFERS + i * RECEIVE, RECEIVE,
			      VRING_DESC_F_WRITE, 0);
		ring_offer(ring, (u16)i);
	}
	while (io.requests < io.count) {
		u16 head;
		u32 len;

		kick(ring, before);
		before = ring->available;
		wait_for_used(ring);
		while (ring_has_used(ring)) {
			ring_take(ring, &head, &len);
			ring_offer(ring, head);
			io.requests++;
		}
	}
}

/* Setting up */

static void set_vector(unsigned slot)
{
	unsigned capability = pci_find_capability(slot, PCI_CAP_ID_MSIX, 0);
	u32 table = pci_read32(slot, capability + PCI_MSIX_TABLE);
	u64 entry = pci_bar(slot, table & PCI_MSIX_TABLE_BIR) + (table & PCI_MSIX_TABLE_OFFSET);

	if (!capability)
		give_up("the device has MSI-X");
	pci_write16(slot, capability + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE);
	write32(entry + PCI_MSIX_ENTRY_LOWER_ADDR, LAYOUT_LAPIC);
	write32(entry + PCI_MSIX_ENTRY_UPPER_ADDR, 0);
	write32(entry + PCI_MSIX_ENTRY_DATA, VECTOR_QUEUE);
	write32(entry + PCI_MSIX_ENTRY_VECTOR_CTRL, 0);
}

static void start_device(u16 id, u64 features, unsigned queues, unsigned busy)
{
	const unsigned slot = pci_find(VIRTIO_VENDOR, VIRTIO_ID + id);

	if (slot == PCI_SLOTS)
		give_up("there is a virtio device of type %u", id);
	virtio_find(&io.virtio, slot);
	set_vector(slot);
	if (!virtio_negotiate(&io.virtio, features | FEATURE(VIRTIO_F_VERSION_1) |
						  FEATURE(VIRTIO_RING_F_EVENT_IDX)))
		give_up("the device agrees");
	for (unsigned i = 0; i < queues; i++) {
		virtio_set_ring(&io.virtio, i, RING);
		virtio_write16(&io.virtio, VIRTIO_PCI_COMMON_Q_MSIX,
			       i == busy ? 0 : VIRTIO_MSI_NO_VECTOR);
		virtio_enable_ring(&io.virtio, i);
	}
	virtio_add_status(&io.virtio, VIRTIO_CONFIG_S_DRIVER_OK);
	io.notify = virtio_notify_address(&io.virtio, busy);
}

static void user_main(void)
{
	print("load: ready\n");
	serial_get();
	print("load: begin\n");
	if (!strcmp(io.job, "send"))
		run_send();
	else if (!strcmp(io.job, "receive"))
		run_receive();
	else
		run_disk();
	print("load: end %lu %lu %u\n", io.requests, io.kicks, interrupt_count(VECTOR_QUEUE));
	finish();
}

/* All that the kernel has is the user's as well: there is nobody to be protected. */
static void share_memory(void)
{
	for (u64 at = 0; at < GiB(4); at += MiB(2))
		*paging_entry(at, LEVEL_2M) |= PTE_USER;
	for (u64 at = 0; at < GiB(4); at += GiB(1))
		*paging_entry(at, LEVEL_1G) |= PTE_USER;
	*paging_entry(0, LEVEL_512G) |= PTE_USER;
	paging_set_root(paging_root());
}

static __attribute__((noreturn)) void become_user(void)
{
	static u8 stack[STACK_SIZE] __attribute__((aligned(16)));

	/* As if called: the stack is 8 off. */
	asm volatile("push %0; push %1; push %2; push %3; push %4; iretq"
		     :
		     : "r"((u64)SEGMENT_USER_DATA), "r"((u64)(stack + sizeof(stack) - 8)),
		       "r"((u64)(X86_EFLAGS_FIXED | X86_EFLAGS_IF | X86_EFLAGS_IOPL)),
		       "r"((u64)SEGMENT_USER_CODE64), "r"((u64)user_main)
		     : "memory");
	__builtin_unreachable();
}

void guest_main(const struct boot *boot)
{
	if (!boot_option(boot, "job", io.job, sizeof(io.job)))
		give_up("the command line has a job");
	io.size = number_option(boot, "size", KiB(4));
	io.depth = MIN(number_option(boot, "depth", 1), DEPTH_MAX);
	io.count = number_option(boot, "count", 1000);
	io.span = number_option(boot, "span", MiB(64));
	io.gso = number_option(boot, "gso", 0);
	io.random = 1;

	out8(PORT_PIC_MASK, 0xff);
	out8(PORT_PIC_MASK_2, 0xff);
	trap_init();
	interrupt_hook(on_trap);
	interrupt_gate(VECTOR_WAIT)->type |= GATE_USER;
	if (!strcmp(io.job, "send"))
		start_device(VIRTIO_ID_NET,
			     FEATURE(VIRTIO_NET_F_CSUM) | FEATURE(VIRTIO_NET_F_HOST_TSO4), 2,
			     NET_TX);
	else if (!strcmp(io.job, "receive"))
		start_device(VIRTIO_ID_NET, 0, 2, NET_RX);
	else
		start_device(VIRTIO_ID_BLOCK, FEATURE(VIRTIO_BLK_F_FLUSH), 1, 0);
	share_memory();
	become_user();
}
