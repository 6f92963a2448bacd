/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio network device (virtio/net.c) between a driver and a back end of the
 * test's own: one end of a socket that keeps frames apart. What the device sends
 * can be read at the other end, header and all, and what is written there arrives.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_guest.h"
#include "framing.h"
#include "virtio/net.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RECEIVE	 0
#define TRANSMIT 1

#define FEATURE(name) (1ull << VIRTIO_NET_F_##name)
#define OFFLOADS                                                                                   \
	(FEATURE(CSUM) | FEATURE(HOST_TSO4) | FEATURE(HOST_TSO6) | FEATURE(HOST_ECN) |             \
	 FEATURE(GUEST_CSUM) | FEATURE(GUEST_TSO4) | FEATURE(GUEST_TSO6) | FEATURE(GUEST_ECN))
#define OTHERS	   (FEATURE(MAC) | FEATURE(MTU) | FEATURE(STATUS) | FEATURE(MRG_RXBUF))
#define MERGEABLE  (FEATURE_VERSION_1 | FEATURE(MRG_RXBUF))
#define RING_RESET (1ull << VIRTIO_F_RING_RESET)
#define EVENT_IDX  (1ull << VIRTIO_RING_F_EVENT_IDX)
#define PACKED	   (1ull << VIRTIO_F_RING_PACKED)

#define CONFIG(field) (REGISTERS_DEVICE + offsetof(struct virtio_net_config, field))

#define HEADER sizeof(struct virtio_net_hdr_mrg_rxbuf)

static const u8 mac[ETH_ALEN] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};

struct frame {
	struct virtio_net_hdr_mrg_rxbuf header;
	u8 bytes[NETIF_FRAME_MAX + 1];
};

/* The frame of tests that cut it in all ways: bytes behind the header, and with it. */
#define FRAMED	     60
#define FRAMED_TOTAL (HEADER + FRAMED)

struct fixture {
	struct fake_guest guest;
	struct netif netif;
	struct net net;
	int wire; /* the other end */
	struct netif_offloads offloads;
	unsigned offloads_set;
	_Atomic bool refuses;	/* send() fails */
	_Atomic unsigned stuck; /* how often it found no room */
	struct frame framed;
};

static ssize_t wire_receive(struct netif *netif, const struct iovec *iov, unsigned count)
{
	ssize_t length = readv(netif->fd, iov, count);

	return length < 0 ? -errno : length ? length : -EPIPE;
}

static int wire_send(struct netif *netif, const struct iovec *iov, unsigned count)
{
	struct fixture *f = netif->own;

	if (f->refuses)
		return -EIO;
	if (writev(netif->fd, iov, count) >= 0)
		return 0;
	f->stuck += errno == EAGAIN;
	return -errno;
}

static int wire_set_offloads(struct netif *netif, const struct netif_offloads *offloads)
{
	struct fixture *f = netif->own;

	f->offloads = *offloads;
	f->offloads_set++;
	return 0;
}

static const struct netif_ops with_offloads = {
	.receive = wire_receive,
	.send = wire_send,
	.set_offloads = wire_set_offloads,
};

static const struct netif_ops without_offloads = {
	.receive = wire_receive,
	.send = wire_send,
};

static int setup_wire(void **state, const struct netif_ops *ops, bool exceeds_mtu, bool strict)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct problem why;
	int ends[2];

	assert_non_null(f);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends), 0);
	f->wire = ends[1];
	f->netif = (struct netif){
		.ops = ops,
		.name = "the wire",
		.fd = ends[0],
		.child_fd = -1,
		.mtu = 1500,
		.exceeds_mtu = exceeds_mtu,
		.own = f,
	};
	memcpy(f->netif.mac, mac, ETH_ALEN);
	fake_guest_init(&f->guest, strict);
	snprintf(f->net.virtio.name, sizeof(f->net.virtio.name), "net0");
	assert_int_equal(net_init(&f->net, &f->guest.pci, FAKE_GUEST_SLOT, &f->guest.machine,
				  f->guest.memory, &f->netif, &why),
			 0);
	fake_guest_power_on(&f->guest);
	*state = f;
	return 0;
}

static int setup(void **state)
{
	return setup_wire(state, &with_offloads, false, false);
}

static int setup_plain(void **state)
{
	return setup_wire(state, &without_offloads, false, false);
}

static int setup_exceeding(void **state)
{
	return setup_wire(state, &without_offloads, true, false);
}

static int setup_strict(void **state)
{
	return setup_wire(state, &with_offloads, false, true);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	virtio_power_on(&f->net.virtio);
	fake_guest_destroy_board(&f->guest);
	virtio_unplug(&f->net.virtio);
	fake_guest_destroy(&f->guest);
	close(f->netif.fd);
	if (f->wire >= 0)
		close(f->wire);
	free(f);
	return 0;
}

/* Frames */

/* Different at each place, and from frame to frame. */
static struct frame make_frame(u8 salt)
{
	struct frame frame = {0};

	for (size_t i = 0; i < sizeof(frame.bytes); i++)
		frame.bytes[i] = (i * 7 + i / 251 + salt) & 0xff;
	return frame;
}

/* To the device: `length` bytes behind the header. */
static void arrive(struct fixture *f, const struct frame *frame, size_t length)
{
	assert_int_equal(send(f->wire, frame, HEADER + length, 0), HEADER + length);
}

static bool wire_is_silent(const struct fixture *f)
{
	struct pollfd fd = {.fd = f->wire, .events = POLLIN};

	return poll(&fd, 1, 0) == 0;
}

/* From the device: how many bytes behind the header. */
static size_t await_frame(struct fixture *f, struct frame *frame)
{
	struct pollfd fd = {.fd = f->wire, .events = POLLIN};
	ssize_t length;

	assert_int_equal(poll(&fd, 1, 20000), 1);
	length = recv(f->wire, frame, sizeof(*frame), 0);
	assert_true(length >= (ssize_t)HEADER);
	return length - HEADER;
}

/* Has the device taken all frames that were to arrive? */
static void await_taken(struct fixture *f)
{
	struct pollfd fd = {.fd = f->netif.fd, .events = POLLIN};

	AWAIT(poll(&fd, 1, 0) == 0);
}

static struct fake_driver *driver(struct fixture *f, unsigned queue)
{
	return &f->guest.queues[queue];
}

/* Split rings: how many buffers the device has given back. */
static u16 used_index(struct fixture *f, unsigned queue)
{
	return __atomic_load_n(&driver(f, queue)->used->idx, __ATOMIC_ACQUIRE);
}

static u64 add_room(struct fixture *f, u32 len)
{
	const struct fake_buffer buffer = fake_writable(driver(f, RECEIVE), len);

	assert_true(fake_driver_add(driver(f, RECEIVE), &buffer, 1) >= 0);
	return buffer.gpa;
}

static const u8 *at(struct fixture *f, u64 gpa)
{
	return fake_driver_at(driver(f, RECEIVE), gpa, 1);
}

static void add_frame(struct fixture *f, const struct frame *frame, u32 length)
{
	const struct fake_buffer buffer =
		fake_readable(driver(f, TRANSMIT), frame, HEADER + length);

	assert_true(fake_driver_add(driver(f, TRANSMIT), &buffer, 1) >= 0);
}

static void transmit(struct fixture *f, const struct frame *frame, u32 length)
{
	u16 head;

	add_frame(f, frame, length);
	submit(&f->guest, TRANSMIT);
	assert_int_equal(await_used(&f->guest, TRANSMIT, &head), 0);
}

static void assert_transmits(struct fixture *f, u8 salt)
{
	const struct frame frame = make_frame(salt);
	struct frame sent;

	transmit(f, &frame, 60);
	assert_int_equal(await_frame(f, &sent), 60);
	assert_memory_equal(sent.bytes, frame.bytes, 60);
}

/* One frame into one buffer of its own. */
static void assert_receives(struct fixture *f, u8 salt)
{
	const struct frame frame = make_frame(salt);
	const u64 gpa = add_room(f, 2000);
	u16 head;

	submit(&f->guest, RECEIVE);
	arrive(f, &frame, 60);
	assert_int_equal(await_used(&f->guest, RECEIVE, &head), HEADER + 60);
	assert_int_equal(driver(f, RECEIVE)->desc[head].addr, gpa);
	assert_memory_equal(at(f, gpa) + HEADER, frame.bytes, 60);
}

/* What it says of itself */

static void test_identity(void **state)
{
	struct fixture *f = *state;
	struct pci_device *device = fake_guest_device(&f->guest);

	assert_int_equal(pci_config_read(device, PCI_DEVICE_ID, 2), 0x1040 + VIRTIO_ID_NET);
	assert_int_equal(pci_config_read(device, PCI_CLASS_DEVICE, 2), 0x0200);
	bring_up(&f->guest, STAGE_DRIVER, 0);
	assert_int_equal(offered_features(&f->guest) & 0xffffff, OFFLOADS | OTHERS);
	assert_int_equal(common_get(&f->guest, VIRTIO_PCI_COMMON_NUMQ), 2);
	for (unsigned i = 0; i < ETH_ALEN; i++)
		assert_int_equal(fake_guest_read(&f->guest, 0, CONFIG(mac) + i, 1), mac[i]);
	assert_int_equal(fake_guest_read(&f->guest, 0, CONFIG(status), 2), VIRTIO_NET_S_LINK_UP);
	assert_int_equal(fake_guest_read(&f->guest, 0, CONFIG(mtu), 2), 1500);
}

static void test_identity_plain(void **state)
{
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_DRIVER, 0);
	assert_int_equal(offered_features(&f->guest) & 0xffffff, OTHERS);
	bring_up(&f->guest, STAGE_LIVE, MERGEABLE);
	assert_receives(f, 1);
	assert_transmits(f, 2);
}

/* VT-3: one that needs another is refused without it. */
static void test_dependencies(void **state)
{
	static const struct {
		u64 features;
		bool fine;
	} tests[] = {
		{0, true},
		{OFFLOADS | OTHERS, true},
		{FEATURE(CSUM) | FEATURE(GUEST_CSUM), true},
		{FEATURE(HOST_TSO4), false},
		{FEATURE(HOST_TSO6), false},
		{FEATURE(HOST_TSO4) | FEATURE(GUEST_CSUM), false},
		{FEATURE(CSUM) | FEATURE(HOST_TSO4), true},
		{FEATURE(CSUM) | FEATURE(HOST_TSO6) | FEATURE(HOST_ECN), true},
		{FEATURE(CSUM) | FEATURE(HOST_ECN), false},
		{FEATURE(GUEST_TSO4), false},
		{FEATURE(GUEST_TSO6), false},
		{FEATURE(GUEST_TSO6) | FEATURE(CSUM), false},
		{FEATURE(GUEST_CSUM) | FEATURE(GUEST_TSO6), true},
		{FEATURE(GUEST_CSUM) | FEATURE(GUEST_TSO4) | FEATURE(GUEST_ECN), true},
		{FEATURE(GUEST_CSUM) | FEATURE(GUEST_ECN), false},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
		bring_up(&f->guest, STAGE_DRIVER, 0);
		accept_features(&f->guest, FEATURE_VERSION_1 | tests[i].features);
		status_add(&f->guest, VIRTIO_CONFIG_S_FEATURES_OK);
		assert_int_equal(!!(status_get(&f->guest) & VIRTIO_CONFIG_S_FEATURES_OK),
				 tests[i].fine);
	}
}

static void test_config_is_read_only(void **state)
{
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	fake_guest_write(&f->guest, 0, CONFIG(mac), 1, 0x02);
	assert_non_null(strstr(fake_guest_said(&f->guest), "net0: VT-11: "));
	assert_int_equal(fake_guest_read(&f->guest, 0, CONFIG(mac), 1), mac[0]);
}

/* What the driver has accepted is what the back end may hand over unfinished, and no more. */
static void test_offloads(void **state)
{
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1 | OFFLOADS);
	assert_true(f->offloads.checksum && f->offloads.tso4 && f->offloads.tso6 &&
		    f->offloads.ecn);
	bring_up(&f->guest, STAGE_LIVE,
		 FEATURE_VERSION_1 | FEATURE(GUEST_CSUM) | FEATURE(GUEST_TSO6));
	assert_true(f->offloads.checksum && !f->offloads.tso4 && f->offloads.tso6 &&
		    !f->offloads.ecn);
	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1 | FEATURE(CSUM) | FEATURE(HOST_TSO4));
	assert_false(f->offloads.checksum || f->offloads.tso4);
	assert_int_equal(f->offloads_set, 3);
}

/* Sending */

static void test_transmit(void **state)
{
	struct fixture *f = *state;
	struct frame frame = make_frame(0), sent;

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	frame.header.num_buffers = 77;
	transmit(f, &frame, 1514);
	assert_int_equal(await_frame(f, &sent), 1514);
	assert_memory_equal(sent.bytes, frame.bytes, 1514);
	frame.header.num_buffers = 0;
	assert_memory_equal(&sent.header, &frame.header, HEADER);
}

/* VQ-10 */
static bool check_sent(void *opaque, const u8 *written, u32 used)
{
	struct fixture *f = opaque;
	struct frame sent;

	(void)written;
	return !used && await_frame(f, &sent) == FRAMED && !memcmp(&sent, &f->framed, FRAMED_TOTAL);
}

static void test_transmit_in_pieces(void **state)
{
	struct fixture *f = *state;
	const struct framing framing = {
		.queue = TRANSMIT,
		.features = FEATURE(CSUM),
		.readable = &f->framed,
		.readable_len = FRAMED_TOTAL,
		.readable_edges = {HEADER, HEADER + ETH_HLEN},
		.check = check_sent,
		.opaque = f,
	};

	f->framed = make_frame(0);
	f->framed.header.hdr = (struct virtio_net_hdr){
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.csum_start = 34,
		.csum_offset = 16,
	};
	print_message("%u ways\n", frame_every_way(&f->guest, &framing));
}

static void test_transmit_without_header(void **state)
{
	struct fixture *f = *state;

	for (u32 length = 0; length < HEADER; length += HEADER - 1) {
		const struct fake_buffer buffer = {MiB(5), length, false};

		bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
		assert_true(fake_driver_add(driver(f, TRANSMIT), &buffer, 1) >= 0);
		submit(&f->guest, TRANSMIT);
		AWAIT(status_get(&f->guest) & VIRTIO_CONFIG_S_NEEDS_RESET);
		common_set(&f->guest, VIRTIO_PCI_COMMON_STATUS, 0);
		assert_non_null(
			strstr(fake_guest_said(&f->guest), "net0: DEV-3: frame at head 0: "));
	}
	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	assert_transmits(f, 1);
}

static void test_transmit_without_header_strict(void **state)
{
	struct fixture *f = *state;
	const struct fake_buffer buffer = {MiB(5), HEADER - 1, false};

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	assert_true(fake_driver_add(driver(f, TRANSMIT), &buffer, 1) >= 0);
	submit(&f->guest, TRANSMIT);
	AWAIT(!machine_running(&f->guest.machine));
	assert_int_equal(f->guest.machine.status, EXIT_CRASHED);
	assert_non_null(strstr(f->guest.machine.why, "DEV-3: "));
}

/*
 * What a driver may write into its header, and what of it gets through: nothing that was not
 * negotiated, nothing that points outside the frame.
 */
#define CSUM	    VIRTIO_NET_HDR_F_NEEDS_CSUM
#define TCPV4	    VIRTIO_NET_HDR_GSO_TCPV4
#define TCPV6	    VIRTIO_NET_HDR_GSO_TCPV6
#define ECN	    VIRTIO_NET_HDR_GSO_ECN
#define ALL_TO_HOST (FEATURE(CSUM) | FEATURE(HOST_TSO4) | FEATURE(HOST_TSO6) | FEATURE(HOST_ECN))

static void test_transmit_headers(void **state)
{
	/* clang-format off */
	static const struct {
		u64 features;
		u32 length;
		bool dropped;
		struct virtio_net_hdr in, out; /* flags, type, hdr_len, size, start, offset */
	} tests[] = {
		/* As it should be. */
		{ALL_TO_HOST, 100, false, {CSUM, 0, 0, 0, 34, 16}, {CSUM, 0, 0, 0, 34, 16}},
		{ALL_TO_HOST, 9000, false, {CSUM, TCPV4, 54, 1448, 34, 16},
		 {CSUM, TCPV4, 54, 1448, 34, 16}},
		{ALL_TO_HOST, 9000, false, {CSUM, TCPV6 | ECN, 74, 1428, 54, 16},
		 {CSUM, TCPV6 | ECN, 74, 1428, 54, 16}},
		{ALL_TO_HOST, 65550, false, {CSUM, TCPV4, 54, 8, 34, 16},
		 {CSUM, TCPV4, 54, 8, 34, 16}},
		/* Not negotiated. */
		{0, 100, false, {CSUM, TCPV4, 54, 1448, 34, 16}, {0}},
		{0, 100, false, {0xff, 0xff, 0xffff, 0xffff, 0xffff, 0xffff}, {0}},
		{FEATURE(CSUM), 100, false, {CSUM, TCPV4, 54, 1448, 34, 16},
		 {CSUM, 0, 0, 0, 34, 16}},
		{FEATURE(CSUM) | FEATURE(HOST_TSO4), 100, false, {CSUM, TCPV6, 54, 1448, 34, 16},
		 {CSUM, 0, 0, 0, 34, 16}},
		{FEATURE(CSUM) | FEATURE(HOST_TSO6), 100, false, {CSUM, TCPV4, 54, 1448, 34, 16},
		 {CSUM, 0, 0, 0, 34, 16}},
		{FEATURE(CSUM) | FEATURE(HOST_TSO4), 100, false, {CSUM, TCPV4 | ECN, 54, 1448, 34, 16},
		 {CSUM, TCPV4, 54, 1448, 34, 16}},
		/* Unknown. */
		{ALL_TO_HOST, 100, false, {CSUM | 0xfe, 0, 0, 0, 34, 16}, {CSUM, 0, 0, 0, 34, 16}},
		{ALL_TO_HOST, 100, false, {CSUM, VIRTIO_NET_HDR_GSO_UDP, 54, 1448, 34, 16},
		 {CSUM, 0, 0, 0, 34, 16}},
		{ALL_TO_HOST, 100, false, {CSUM, 0x7f, 54, 1448, 34, 16}, {CSUM, 0, 0, 0, 34, 16}},
		{ALL_TO_HOST, 100, false, {0, 0, 0xffff, 0xffff, 0xffff, 0xffff}, {0}},
		/* A hint that leads nowhere. */
		{ALL_TO_HOST, 100, false, {CSUM, TCPV4, 0xffff, 1448, 34, 16},
		 {CSUM, TCPV4, 100, 1448, 34, 16}},
		/* Outside the frame. */
		{ALL_TO_HOST, 100, false, {CSUM, 0, 0, 0, 82, 16}, {CSUM, 0, 0, 0, 82, 16}},
		{ALL_TO_HOST, 100, true, {CSUM, 0, 0, 0, 83, 16}, {0}},
		{ALL_TO_HOST, 100, true, {CSUM, 0, 0, 0, 0xffff, 0xffff}, {0}},
		{ALL_TO_HOST, 100, true, {CSUM, 0, 0, 0, 0, 0xffff}, {0}},
		{ALL_TO_HOST, 100, true, {CSUM, TCPV4, 54, 1448, 99, 0}, {0}},
		/* Segments without sense. */
		{ALL_TO_HOST, 9000, true, {CSUM, TCPV4, 54, 0, 34, 16}, {0}},
		{ALL_TO_HOST, 9000, true, {CSUM, TCPV4, 54, 7, 34, 16}, {0}},
		{ALL_TO_HOST, 9000, true, {0, TCPV4, 54, 1448, 34, 16}, {0}},
		/* Frames that are none. */
		{ALL_TO_HOST, 0, true, {0}, {0}},
		{ALL_TO_HOST, 13, true, {0}, {0}},
		{ALL_TO_HOST, 14, false, {0}, {0}},
		{ALL_TO_HOST, 65551, true, {0}, {0}},
	};
	/* clang-format on */
	struct fixture *f = *state;
	struct frame frame = make_frame(3), sent;

	for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
		print_message("header %zu\n", i);
		bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1 | tests[i].features);
		frame.header.hdr = tests[i].in;
		transmit(f, &frame, tests[i].length);
		if (!tests[i].dropped) {
			assert_int_equal(await_frame(f, &sent), tests[i].length);
			assert_memory_equal(&sent.header.hdr, &tests[i].out, sizeof(tests[i].out));
			assert_memory_equal(sent.bytes, frame.bytes, tests[i].length);
		}
		/* The next one is none the worse for it. */
		assert_transmits(f, i);
		assert_int_equal(f->net.sent.dropped, tests[i].dropped);
	}
}

static void test_transmit_fails(void **state)
{
	struct fixture *f = *state;
	const struct frame frame = make_frame(0);

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	f->refuses = true;
	for (unsigned i = 0; i < 20; i++)
		transmit(f, &frame, 60);
	f->refuses = false;
	assert_transmits(f, 1);
	assert_int_equal(f->net.sent.dropped, 20);
	assert_int_equal(f->net.sent.frames, 1);
	assert_string_equal(fake_guest_said(&f->guest), "");
}

/*
 * The wire takes no more frames, and the ring is full of them. How many went into the wire, each
 * like this one.
 */
static unsigned fill_wire(struct fixture *f, const struct frame *frame)
{
	const struct fake_buffer buffer = fake_readable(driver(f, TRANSMIT), frame, HEADER + 1514);
	unsigned count = 0;

	while (send(f->netif.fd, frame, HEADER + 1514, MSG_DONTWAIT) > 0)
		count++;
	while (fake_driver_add(driver(f, TRANSMIT), &buffer, 1) >= 0)
		submit(&f->guest, TRANSMIT);
	AWAIT(f->stuck);
	return count;
}

static void test_transmit_waits(void **state)
{
	struct fixture *f = *state;
	const struct frame frame = make_frame(0);
	struct frame sent;
	unsigned in_wire;
	u16 head;

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	in_wire = fill_wire(f, &frame);
	assert_int_equal(used_index(f, TRANSMIT), 0);
	for (unsigned i = 0; i < in_wire + driver(f, TRANSMIT)->size; i++) {
		assert_int_equal(await_frame(f, &sent), 1514);
		assert_memory_equal(sent.bytes, frame.bytes, 1514);
	}
	for (unsigned i = 0; i < driver(f, TRANSMIT)->size; i++)
		assert_int_equal(await_used(&f->guest, TRANSMIT, &head), 0);
	assert_true(wire_is_silent(f));
	assert_int_equal(f->net.sent.dropped, 0);
}

/* VT-13 */
static void test_reset_while_stuck(void **state)
{
	struct fixture *f = *state;
	const struct frame frame = make_frame(0);
	struct frame sent;

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	fill_wire(f, &frame);
	common_set(&f->guest, VIRTIO_PCI_COMMON_STATUS, 0);
	assert_int_equal(status_get(&f->guest), 0);
	while (!wire_is_silent(f))
		await_frame(f, &sent);
	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	assert_transmits(f, 1);
}

/* Receiving */

static void assert_header(struct fixture *f, u64 gpa, unsigned buffers)
{
	const struct virtio_net_hdr_mrg_rxbuf header = {.num_buffers = buffers};

	assert_memory_equal(at(f, gpa), &header, HEADER);
}

static void test_receive(void **state)
{
	struct fixture *f = *state;
	const struct frame frame = make_frame(0);
	u64 gpa;
	u16 head;

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	gpa = add_room(f, 2000);
	submit(&f->guest, RECEIVE);
	arrive(f, &frame, 1514);
	assert_int_equal(await_used(&f->guest, RECEIVE, &head), HEADER + 1514);
	assert_header(f, gpa, 1);
	assert_memory_equal(at(f, gpa) + HEADER, frame.bytes, 1514);
	assert_int_equal(at(f, gpa)[HEADER + 1514], 0);

	/* One that was there before any room for it. */
	arrive(f, &frame, 60);
	assert_receives(f, 0);
	assert_int_equal(f->net.received.frames, 2);
	assert_int_equal(f->net.received.bytes, 1514 + 60);
}

/* VQ-10 */
static void send_framed(void *opaque)
{
	struct fixture *f = opaque;

	arrive(f, &f->framed, FRAMED);
}

static bool check_received(void *opaque, const u8 *written, u32 used)
{
	const struct fixture *f = opaque;
	struct frame expected = f->framed;

	expected.header.num_buffers = 1;
	return used == FRAMED_TOTAL && !memcmp(written, &expected, FRAMED_TOTAL);
}

static void receive_in_pieces(struct fixture *f, u64 features)
{
	const struct framing framing = {
		.queue = RECEIVE,
		.features = features,
		.writable_len = FRAMED_TOTAL + 5,
		.writable_edges = {HEADER, FRAMED_TOTAL},
		.prepare = send_framed,
		.check = check_received,
		.opaque = f,
	};

	f->framed = make_frame(0);
	print_message("%u ways\n", frame_every_way(&f->guest, &framing));
}

static void test_receive_in_pieces(void **state)
{
	receive_in_pieces(*state, 0);
}

static void test_receive_in_pieces_mergeable(void **state)
{
	receive_in_pieces(*state, FEATURE(MRG_RXBUF));
}

/* The next used buffers hold this frame; their sizes are all the same. */
static void assert_merged(struct fixture *f, const u64 *gpa, u32 room, const struct frame *frame,
			  u32 length)
{
	const u32 total = HEADER + length;
	const unsigned buffers = (total + room - 1) / room;
	u8 *got = malloc(total);

	for (unsigned i = 0; i < buffers; i++) {
		const u32 part = MIN(room, total - i * room);
		u16 head;

		assert_int_equal(await_used(&f->guest, RECEIVE, &head), part);
		assert_int_equal(driver(f, RECEIVE)->desc[head].addr, gpa[i]);
		memcpy(got + i * room, at(f, gpa[i]), part);
	}
	assert_int_equal(((struct virtio_net_hdr_mrg_rxbuf *)got)->num_buffers, buffers);
	assert_memory_equal(got + HEADER, frame->bytes, length);
	free(got);
}

static void test_receive_merged(void **state)
{
	struct fixture *f = *state;
	const struct frame frames[] = {make_frame(0), make_frame(1), make_frame(2)};
	u64 gpa[16];

	bring_up(&f->guest, STAGE_LIVE, MERGEABLE);
	for (unsigned i = 0; i < 16; i++)
		gpa[i] = add_room(f, 100);
	submit(&f->guest, RECEIVE);
	arrive(f, &frames[0], 60);
	arrive(f, &frames[1], 500); /* 512 bytes: six buffers */
	arrive(f, &frames[2], 888); /* 900: all of nine */
	assert_merged(f, gpa, 100, &frames[0], 60);
	assert_merged(f, gpa + 1, 100, &frames[1], 500);
	assert_merged(f, gpa + 7, 100, &frames[2], 888);
}

/*
 * A driver that polls finds all buffers of a frame or none: what tells of each write to guest RAM
 * sees the used index move once.
 */
struct watch {
	struct fixture *f;
	u16 seen;
	unsigned moves;
	u64 bytes; /* written into [from, to) */
	u64 from, to;
};

static void watch_written(void *opaque, u64 gpa, u64 len)
{
	struct watch *watch = opaque;
	const u16 index = used_index(watch->f, RECEIVE);

	/* The other queue's thread is not to be here. */
	if (gpa >= driver(watch->f, RECEIVE)->heap_end)
		return;
	if (index != watch->seen)
		watch->moves++;
	watch->seen = index;
	if (gpa >= watch->from && gpa + len <= watch->to)
		watch->bytes += len;
}

static void test_receive_all_at_once(void **state)
{
	struct fixture *f = *state;
	const struct frame frame = make_frame(0);
	struct watch watch = {.f = f};
	u64 gpa[8];

	bring_up(&f->guest, STAGE_QUEUES, MERGEABLE);
	for (unsigned i = 0; i < 8; i++)
		gpa[i] = add_room(f, 300);
	watch.from = gpa[0];
	watch.to = gpa[7] + 300;
	f->guest.memory->written = watch_written;
	f->guest.memory->written_opaque = &watch;
	fake_driver_publish(driver(f, RECEIVE));
	arrive(f, &frame, 1400);
	status_add(&f->guest, VIRTIO_CONFIG_S_DRIVER_OK);
	assert_merged(f, gpa, 300, &frame, 1400);
	common_set(&f->guest, VIRTIO_PCI_COMMON_STATUS, 0);
	assert_int_equal(watch.moves, 1);
	assert_int_equal(watch.bytes, HEADER + 1400);
	f->guest.memory->written = NULL;
}

/* From a back end that does not promise to keep to the MTU. */
static void test_receive_exceeding(void **state)
{
	struct fixture *f = *state;
	const struct frame frame = make_frame(0);
	u64 gpa[4];

	bring_up(&f->guest, STAGE_DRIVER, 0);
	assert_int_equal(offered_features(&f->guest) & 0xffffff, OTHERS & ~FEATURE(MTU));
	bring_up(&f->guest, STAGE_LIVE, MERGEABLE);
	for (unsigned i = 0; i < 4; i++)
		gpa[i] = add_room(f, 1526);
	submit(&f->guest, RECEIVE);
	arrive(f, &frame, 4042);
	assert_merged(f, gpa, 1526, &frame, 4042);
}

/* The longest that there are, in the smallest number of buffers and in many. */
static void test_receive_longest(void **state)
{
	static const u32 rooms[] = {NETIF_FRAME_MAX, 40000, 4100};
	const u32 longest = NETIF_FRAME_MAX - HEADER;
	struct fixture *f = *state;
	struct frame frame = make_frame(0);

	frame.header.hdr = (struct virtio_net_hdr){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
						   .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
						   .gso_size = 1448};
	for (size_t i = 0; i < ARRAY_SIZE(rooms); i++) {
		u64 gpa[16];

		bring_up(&f->guest, STAGE_LIVE,
			 MERGEABLE | FEATURE(GUEST_CSUM) | FEATURE(GUEST_TSO4));
		for (unsigned j = 0; j * rooms[i] < NETIF_FRAME_MAX; j++)
			gpa[j] = add_room(f, rooms[i]);
		submit(&f->guest, RECEIVE);
		arrive(f, &frame, longest);
		assert_merged(f, gpa, rooms[i], &frame, longest);
	}
}

/* The device has read more than the driver had room for: nothing is lost, it waits for the rest. */
static void test_receive_waits_for_room(void **state)
{
	struct fixture *f = *state;
	struct frame frame = make_frame(0);
	u64 gpa[5];

	bring_up(&f->guest, STAGE_LIVE, MERGEABLE | FEATURE(GUEST_CSUM) | FEATURE(GUEST_TSO4));
	frame.header.hdr = (struct virtio_net_hdr){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
						   .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
						   .gso_size = 1448};
	gpa[0] = add_room(f, 1500);
	submit(&f->guest, RECEIVE);
	arrive(f, &frame, 6000);
	await_taken(f);
	for (unsigned i = 1; i < 5; i++) {
		assert_int_equal(used_index(f, RECEIVE), 0);
		gpa[i] = add_room(f, 1500);
		submit(&f->guest, RECEIVE);
	}
	assert_merged(f, gpa, 1500, &frame, 6000);
	assert_int_equal(f->net.received.dropped, 0);
	assert_receives(f, 3);
}

static void test_receive_too_small(void **state)
{
	struct fixture *f = *state;
	const struct frame frame = make_frame(0), small = make_frame(1);
	u64 gpa;
	u16 head;

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	gpa = add_room(f, 100);
	submit(&f->guest, RECEIVE);
	arrive(f, &frame, 89);
	arrive(f, &frame, 1514);
	arrive(f, &small, 88);
	assert_int_equal(await_used(&f->guest, RECEIVE, &head), 100);
	assert_header(f, gpa, 1);
	assert_memory_equal(at(f, gpa) + HEADER, small.bytes, 88);
	assert_int_equal(f->net.received.dropped, 2);
}

/* All that a ring can hold is not enough: the driver can bring no more. */
static void test_receive_too_small_merged(void **state)
{
	struct fixture *f = *state;
	const struct frame frame = make_frame(0), small = make_frame(1);
	u64 gpa[16];

	bring_up(&f->guest, STAGE_LIVE, MERGEABLE);
	for (unsigned i = 0; i < 16; i++)
		gpa[i] = add_room(f, 50);
	submit(&f->guest, RECEIVE);
	arrive(f, &frame, 789);
	arrive(f, &small, 788);
	assert_merged(f, gpa, 50, &small, 788);
	assert_int_equal(f->net.received.dropped, 1);
}

static void test_receive_without_header(void **state)
{
	struct fixture *f = *state;

	for (u32 length = 0; length < HEADER; length += HEADER - 1) {
		const struct fake_buffer buffer = {MiB(5), length, true};

		bring_up(&f->guest, STAGE_LIVE, MERGEABLE);
		assert_true(fake_driver_add(driver(f, RECEIVE), &buffer, 1) >= 0);
		submit(&f->guest, RECEIVE);
		AWAIT(status_get(&f->guest) & VIRTIO_CONFIG_S_NEEDS_RESET);
		common_set(&f->guest, VIRTIO_PCI_COMMON_STATUS, 0);
		assert_non_null(strstr(fake_guest_said(&f->guest),
				       "net0: DEV-3: receive buffer at head 0: "));
	}
	bring_up(&f->guest, STAGE_LIVE, MERGEABLE);
	assert_receives(f, 1);
}

/* What the host's header says, and what of it this driver may see. */
#define ALL_TO_GUEST                                                                               \
	(FEATURE(GUEST_CSUM) | FEATURE(GUEST_TSO4) | FEATURE(GUEST_TSO6) | FEATURE(GUEST_ECN))
#define VALID VIRTIO_NET_HDR_F_DATA_VALID

static void test_receive_headers(void **state)
{
	/* clang-format off */
	static const struct {
		u64 features;
		u32 length;
		bool dropped;
		struct virtio_net_hdr in, out;
	} tests[] = {
		{ALL_TO_GUEST, 100, false, {CSUM, 0, 0, 0, 34, 16}, {CSUM, 0, 0, 0, 34, 16}},
		{ALL_TO_GUEST, 100, false, {VALID, 0, 0, 0, 0, 0}, {VALID, 0, 0, 0, 0, 0}},
		{ALL_TO_GUEST, 9000, false, {CSUM, TCPV4 | ECN, 54, 1448, 34, 16},
		 {CSUM, TCPV4 | ECN, 54, 1448, 34, 16}},
		{ALL_TO_GUEST, 9000, false, {CSUM, TCPV6, 54, 1448, 34, 16},
		 {CSUM, TCPV6, 54, 1448, 34, 16}},
		/* Not negotiated. */
		{0, 100, false, {VALID, 0, 0, 0, 0, 0}, {0}},
		{0, 100, true, {CSUM, 0, 0, 0, 34, 16}, {0}},
		{0, 9000, true, {0, TCPV4, 54, 1448, 34, 16}, {0}},
		{FEATURE(GUEST_CSUM), 9000, true, {CSUM, TCPV4, 54, 1448, 34, 16}, {0}},
		{FEATURE(GUEST_CSUM) | FEATURE(GUEST_TSO4), 9000, true, {CSUM, TCPV6, 54, 1448, 34, 16},
		 {0}},
		{FEATURE(GUEST_CSUM) | FEATURE(GUEST_TSO6), 9000, true, {CSUM, TCPV4, 54, 1448, 34, 16},
		 {0}},
		{FEATURE(GUEST_CSUM) | FEATURE(GUEST_TSO4), 9000, true, {CSUM, TCPV4 | ECN, 54, 1448, 34, 16},
		 {0}},
		{ALL_TO_GUEST, 9000, true, {CSUM, VIRTIO_NET_HDR_GSO_UDP, 54, 1448, 34, 16}, {0}},
		{ALL_TO_GUEST, 100, false, {0xf8, 0, 0, 0, 0, 0}, {0}},
		/* Too short, and too long. */
		{0, 13, true, {0}, {0}},
		{0, 14, false, {0}, {0}},
		{FEATURE(MTU), 1518, false, {0}, {0}},
		{FEATURE(MTU), 1519, true, {0}, {0}},
		{0, 1519, false, {0}, {0}},
	};
	/* clang-format on */
	struct fixture *f = *state;
	struct frame frame = make_frame(3);
	const struct frame next = make_frame(4);

	for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
		u64 gpa;
		u16 head;

		print_message("header %zu\n", i);
		bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1 | tests[i].features);
		frame.header.hdr = tests[i].in;
		gpa = add_room(f, 16000);
		submit(&f->guest, RECEIVE);
		arrive(f, &frame, tests[i].length);
		if (!tests[i].dropped) {
			assert_int_equal(await_used(&f->guest, RECEIVE, &head),
					 HEADER + tests[i].length);
			assert_memory_equal(at(f, gpa), &tests[i].out, sizeof(tests[i].out));
			assert_memory_equal(at(f, gpa) + HEADER, frame.bytes, tests[i].length);
			gpa = add_room(f, 16000);
			submit(&f->guest, RECEIVE);
		}
		arrive(f, &next, 60);
		assert_int_equal(await_used(&f->guest, RECEIVE, &head), HEADER + 60);
		assert_memory_equal(at(f, gpa) + HEADER, next.bytes, 60);
		assert_int_equal(f->net.received.dropped, tests[i].dropped);
	}
}

/* DEV-3: one interrupt for all that waits. */
static void test_one_interrupt(void **state)
{
	struct fixture *f = *state;
	const struct frame frame = make_frame(0);
	u16 head;

	enable_msix(&f->guest, 3);
	bring_up(&f->guest, STAGE_QUEUES, MERGEABLE);
	for (unsigned i = 0; i < 16; i++) {
		add_room(f, 2000);
		arrive(f, &frame, 60);
	}
	fake_driver_publish(driver(f, RECEIVE));
	status_add(&f->guest, VIRTIO_CONFIG_S_DRIVER_OK);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(await_used(&f->guest, RECEIVE, &head), HEADER + 60);
	AWAIT(fake_engine_sent(&f->guest.engine));
	common_set(&f->guest, VIRTIO_PCI_COMMON_STATUS, 0);
	assert_int_equal(fake_engine_sent(&f->guest.engine), 1);
}

/* Buffers that the device had taken ahead are the driver's again after a reset. */
static void test_reset_while_receiving(void **state)
{
	struct fixture *f = *state;
	const struct frame frame = make_frame(0);

	for (unsigned i = 0; i < 3; i++) {
		u64 gpa[2];

		bring_up(&f->guest, STAGE_LIVE,
			 MERGEABLE | FEATURE(GUEST_CSUM) | FEATURE(GUEST_TSO4));
		gpa[0] = add_room(f, 500);
		gpa[1] = add_room(f, 500);
		submit(&f->guest, RECEIVE);
		/* Of this one it has the half when the driver goes. */
		arrive(f, &frame, 1200);
		await_taken(f);
		common_set(&f->guest, VIRTIO_PCI_COMMON_STATUS, 0);
		bring_up(&f->guest, STAGE_LIVE, MERGEABLE);
		fake_driver_alloc(driver(f, RECEIVE), KiB(64), 1); /* not there again */
		for (unsigned j = 0; j < 2; j++)
			memset(fake_driver_at(driver(f, RECEIVE), gpa[j], 500), 0xee, 500);
		assert_receives(f, i);
		assert_int_equal(at(f, gpa[0])[0], 0xee);
		assert_int_equal(at(f, gpa[1])[0], 0xee);
	}
}

/* VT-14 */
static void test_queue_reset_while_receiving(void **state)
{
	struct fixture *f = *state;
	const struct frame frame = make_frame(0);

	bring_up(&f->guest, STAGE_LIVE,
		 MERGEABLE | RING_RESET | FEATURE(GUEST_CSUM) | FEATURE(GUEST_TSO4));
	for (unsigned i = 0; i < 4; i++)
		add_room(f, 500);
	submit(&f->guest, RECEIVE);
	arrive(f, &frame, 60);
	AWAIT(used_index(f, RECEIVE) == 1);
	queue_set(&f->guest, RECEIVE, VIRTIO_PCI_COMMON_Q_RESET, 1);
	assert_int_equal(queue_get(&f->guest, RECEIVE, VIRTIO_PCI_COMMON_Q_ENABLE), 0);
	queue_lay_out(&f->guest, RECEIVE, 16, false);
	queue_place(&f->guest, RECEIVE);
	queue_set(&f->guest, RECEIVE, VIRTIO_PCI_COMMON_Q_ENABLE, 1);
	assert_receives(f, 1);
	assert_transmits(f, 2);
}

/* PCI-4: a queue that merely pauses keeps what it has taken. */
static void test_pause_while_receiving(void **state)
{
	struct fixture *f = *state;
	struct pci_device *device = fake_guest_device(&f->guest);
	const struct frame frames[] = {make_frame(0), make_frame(1)};
	u64 gpa[4];
	u16 head;

	bring_up(&f->guest, STAGE_LIVE, MERGEABLE);
	for (unsigned i = 0; i < 4; i++)
		gpa[i] = add_room(f, 500);
	submit(&f->guest, RECEIVE);
	arrive(f, &frames[0], 60);
	assert_int_equal(await_used(&f->guest, RECEIVE, &head), HEADER + 60);
	pci_config_write(device, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	arrive(f, &frames[1], 1100);
	pci_config_write(device, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_merged(f, gpa + 1, 500, &frames[1], 1100);
}

/* The link */

static int end_child(struct fixture *f)
{
	const pid_t child = fork();

	if (child == 0)
		_exit(0);
	f->netif.child_fd = pidfd_open(child, 0);
	assert_true(f->netif.child_fd >= 0);
	assert_int_equal(poll(&(struct pollfd){f->netif.child_fd, POLLIN, 0}, 1, 20000), 1);
	return child;
}

static void assert_link_is_down(struct fixture *f)
{
	const struct frame frame = make_frame(0);

	assert_int_equal(fake_guest_read(&f->guest, 0, CONFIG(status), 2), 0);
	for (unsigned i = 0; i < 3; i++)
		transmit(f, &frame, 60);
	assert_int_equal(f->net.sent.dropped, 3);
}

static void test_child_ends(void **state)
{
	struct fixture *f = *state;
	int status;
	pid_t child;

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1 | FEATURE(STATUS));
	assert_receives(f, 1);
	assert_int_equal(fake_guest_read(&f->guest, 0, REGISTERS_ISR, 1) & 2, 0);
	child = end_child(f);
	net_link_lost(&f->net);
	assert_int_equal(f->netif.child_fd, -1);
	assert_int_equal(waitpid(child, &status, 0), -1); /* buried */
	assert_string_equal(fake_guest_said(&f->guest),
			    "lguest: net0: the wire has ended\n"
			    "lguest: net0: the wire is gone: the link is down\n");
	assert_int_equal(fake_guest_read(&f->guest, 0, REGISTERS_ISR, 1), 2);
	assert_link_is_down(f);

	/* That its wire is cut as well is no news; and the next driver finds it so. */
	close(f->wire);
	f->wire = -1;
	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1 | FEATURE(STATUS));
	add_room(f, 2000);
	submit(&f->guest, RECEIVE);
	assert_link_is_down(f);
	common_set(&f->guest, VIRTIO_PCI_COMMON_STATUS, 0);
	assert_string_equal(fake_guest_said(&f->guest), "");
}

/* The receive queue finds out first. */
static void test_wire_is_cut(void **state)
{
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1 | FEATURE(STATUS));
	add_room(f, 2000);
	submit(&f->guest, RECEIVE);
	close(f->wire);
	f->wire = -1;
	AWAIT(!fake_guest_read(&f->guest, 0, CONFIG(status), 2));
	AWAIT(fake_guest_read(&f->guest, 0, REGISTERS_ISR, 1) & 2);
	assert_link_is_down(f);
	end_child(f);
	net_link_lost(&f->net);
	assert_int_equal(f->netif.child_fd, -1);
	assert_string_equal(fake_guest_said(&f->guest),
			    "lguest: net0: the wire is gone: the link is down\n"
			    "lguest: net0: the wire has ended\n");
}

/* A frame is stuck at a wire that is then cut. */
static void test_wire_is_cut_while_stuck(void **state)
{
	struct fixture *f = *state;
	const struct frame frame = make_frame(0);
	u16 head;

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1 | FEATURE(STATUS));
	fill_wire(f, &frame);
	close(f->wire);
	f->wire = -1;
	for (unsigned i = 0; i < driver(f, TRANSMIT)->size; i++)
		assert_int_equal(await_used(&f->guest, TRANSMIT, &head), 0);
	assert_int_equal(f->net.sent.dropped, driver(f, TRANSMIT)->size);
}

/* Notifications */

/*
 * What the queue's thread believes: between two looks at the clock, this time passes; and while it
 * pauses, it sleeps until we say so, or it has to stop.
 */
static struct {
	_Atomic u64 pace;   /* ns; 0: leave it alone */
	_Atomic long pause; /* ns: as long as it wanted to */
	_Atomic bool overslept;
	sem_t asleep;
	int wake; /* an eventfd */
} dream;

int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
		 const sigset_t *mask);

int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
	static __thread u64 ns;

	if (!dream.pace)
		return __real_clock_gettime(clock, now);
	ns += dream.pace;
	*now = (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
	return 0;
}

/* Only pauses are made of it: of one descriptor, which says that it is time to stop. */
int __wrap_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
		 const sigset_t *mask)
{
	struct pollfd both[] = {{.fd = -1}, {.fd = dream.wake, .events = POLLIN}};
	u64 wakes;

	(void)mask;
	if (count)
		both[0] = fds[0];
	dream.pause = timeout->tv_nsec;
	sem_post(&dream.asleep);
	if (poll(both, ARRAY_SIZE(both), 20000) <= 0)
		dream.overslept = true;
	if (!both[1].revents)
		return 1;
	return read(dream.wake, &wakes, sizeof(wakes)) < 0;
}

static int setup_dream(void **state)
{
	dream.wake = eventfd(0, EFD_SEMAPHORE);
	sem_init(&dream.asleep, 0, 0);
	return dream.wake < 0 ? -1 : setup(state);
}

static int teardown_dream(void **state)
{
	int status = teardown(state);

	assert_false(dream.overslept);
	dream.pace = 0;
	sem_destroy(&dream.asleep);
	close(dream.wake);
	return status;
}

/* One after the other, and each only when the last has been sent. How many notifications. */
static unsigned send_until_asleep(struct fixture *f, unsigned max)
{
	const struct frame frame = make_frame(0);
	unsigned kicks = 0;
	struct frame out;
	u16 head;

	for (unsigned i = 0; i < max && sem_trywait(&dream.asleep); i++) {
		add_frame(f, &frame, 60);
		if (fake_driver_publish(driver(f, TRANSMIT))) {
			kicks++;
			notify(&f->guest, TRANSMIT);
		}
		await_used(&f->guest, TRANSMIT, &head);
		await_frame(f, &out);
	}
	return kicks;
}

/* While it sleeps. Then it wakes, and finds them. */
static void send_unasked(struct fixture *f, unsigned frames)
{
	const struct frame frame = make_frame(0);
	struct frame out;
	u64 wake = 1;
	u16 head;

	for (unsigned i = 0; i < frames; i++) {
		add_frame(f, &frame, 60);
		assert_false(fake_driver_publish(driver(f, TRANSMIT)));
	}
	assert_true(wire_is_silent(f));
	assert_int_equal(write(dream.wake, &wake, sizeof(wake)), sizeof(wake));
	for (unsigned i = 0; i < frames; i++) {
		await_used(&f->guest, TRANSMIT, &head);
		await_frame(f, &out);
	}
}

static void await_sleep(void)
{
	AWAIT(!sem_trywait(&dream.asleep));
}

static const u64 rings[] = {0, EVENT_IDX, PACKED, EVENT_IDX | PACKED};

/*
 * DEV-5: a driver that sends small packets one soon after the other is no longer asked to notify,
 * as long as several come in each pause; and then it is asked again. Had that been of use, it takes
 * fewer of them the next time.
 */
static void test_few_notifications(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rings); i++) {
		unsigned kicks[2];

		bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1 | rings[i]);
		dream.pace = 10000;
		kicks[0] = send_until_asleep(f, 1000);
		/* Time for four packets. */
		assert_int_equal(dream.pause, 40000);
		send_unasked(f, 10);
		await_sleep();
		send_unasked(f, 2);
		await_sleep();
		send_unasked(f, 1);

		kicks[1] = send_until_asleep(f, 1000);
		print_message("%u notifications, then %u\n", kicks[0], kicks[1]);
		assert_in_range(kicks[1], 2, kicks[0] - 1);
		send_unasked(f, 0);
		assert_transmits(f, 1);
		/* A pause is no reason to stop later. */
		send_until_asleep(f, 1000);
	}
}

/* It waits for each answer, or has nothing to do: it would only lose time. */
static void test_pauses_in_vain(void **state)
{
	struct fixture *f = *state;
	unsigned kicks, before = 0;

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	dream.pace = 10000;
	for (unsigned i = 0; i < 4; i++) {
		kicks = send_until_asleep(f, 1000);
		print_message("%u notifications\n", kicks);
		assert_true(kicks > before);
		before = kicks;
		send_unasked(f, 1);
	}
	dream.pace = 2000000;
	dream.pause = 0;
	send_until_asleep(f, 10 * kicks);
	assert_int_equal(dream.pause, 0);
}

#define TEST(name)	     cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_PLAIN(name)     cmocka_unit_test_setup_teardown(name, setup_plain, teardown)
#define TEST_EXCEEDING(name) cmocka_unit_test_setup_teardown(name, setup_exceeding, teardown)
#define TEST_STRICT(name)    cmocka_unit_test_setup_teardown(name, setup_strict, teardown)
#define TEST_DREAM(name)     cmocka_unit_test_setup_teardown(name, setup_dream, teardown_dream)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_identity),
		TEST_PLAIN(test_identity_plain),
		TEST(test_dependencies),
		TEST(test_config_is_read_only),
		TEST(test_offloads),
		TEST(test_transmit),
		TEST(test_transmit_in_pieces),
		TEST(test_transmit_without_header),
		TEST_STRICT(test_transmit_without_header_strict),
		TEST(test_transmit_headers),
		TEST(test_transmit_fails),
		TEST(test_transmit_waits),
		TEST(test_reset_while_stuck),
		TEST(test_receive),
		TEST(test_receive_in_pieces),
		TEST(test_receive_in_pieces_mergeable),
		TEST(test_receive_merged),
		TEST(test_receive_all_at_once),
		TEST_EXCEEDING(test_receive_exceeding),
		TEST(test_receive_longest),
		TEST(test_receive_waits_for_room),
		TEST(test_receive_too_small),
		TEST(test_receive_too_small_merged),
		TEST(test_receive_without_header),
		TEST(test_receive_headers),
		TEST(test_one_interrupt),
		TEST(test_reset_while_receiving),
		TEST(test_queue_reset_while_receiving),
		TEST(test_pause_while_receiving),
		TEST(test_child_ends),
		TEST(test_wire_is_cut),
		TEST(test_wire_is_cut_while_stuck),
		TEST_DREAM(test_few_notifications),
		TEST_DREAM(test_pauses_in_vain),
	};

	/* A wire that is cut is an error of writev(). */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
