/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio network device under a mad driver (virtio_world.h), in front of an
 * interface of our own making: one that takes over unfinished work, as taps do, and one that
 * does not. From the outside come frames with any header whatever, and sometimes
 * nobody takes those of the guest, or the interface goes away.
 *
 * What comes out must make sense to a host's kernel, and what goes in to the
 * driver: nothing that it has not accepted.
 */
#include "virtio_world.h"

#include "virtio/net.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <string.h>
#include <sys/socket.h>

#define RECEIVE	    0
#define TRANSMIT    1
#define SEGMENT_MIN 8 /* the shortest TCP segment; as net.c has it */

struct fuzzed {
	struct world world;
	struct net net;
	struct netif netif;
	int outside; /* the other end of netif.fd: a message is a frame, header and all */
	_Atomic bool hung_up, deaf;
	bool died;
};

static struct fuzzed *fuzzed_of(struct world *world)
{
	return container_of(world, struct fuzzed, world);
}

static bool accepted(const struct fuzzed *fuzzed, unsigned feature)
{
	return fuzzed->net.virtio.accepted >> feature & 1;
}

/* The interface */

static ssize_t fuzz_receive(struct netif *netif, const struct iovec *iov, unsigned count)
{
	struct fuzzed *fuzzed = netif->own;
	struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = count};
	u64 room = 0;
	ssize_t length;

	for (unsigned i = 0; i < count; i++)
		room += iov[i].iov_len;
	MUST(room >= NETIF_FRAME_MAX && count <= 1024 && iov[0].iov_len == NETIF_HEADER);
	if (fuzzed->hung_up)
		return -ECONNRESET;
	length = recvmsg(netif->fd, &message, MSG_DONTWAIT);
	return length < 0 ? -errno : length;
}

static bool is_segments(const struct fuzzed *fuzzed, u8 gso_type)
{
	if (gso_type & VIRTIO_NET_HDR_GSO_ECN && !accepted(fuzzed, VIRTIO_NET_F_HOST_ECN))
		return false;
	switch (gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return accepted(fuzzed, VIRTIO_NET_F_HOST_TSO4);
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return accepted(fuzzed, VIRTIO_NET_F_HOST_TSO6);
	default:
		return false;
	}
}

/* What a host's kernel would be given: its own checks must have nothing to find. */
static void must_be_fit(const struct fuzzed *fuzzed, const struct virtio_net_hdr *header, u64 len)
{
	const bool checksum = header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;

	MUST(len >= ETH_HLEN && len <= NETIF_FRAME_MAX - NETIF_HEADER);
	MUST(!(header->flags & ~VIRTIO_NET_HDR_F_NEEDS_CSUM));
	MUST(!checksum || accepted(fuzzed, VIRTIO_NET_F_CSUM));
	MUST(!checksum || (u64)header->csum_start + header->csum_offset + 2 <= len);
	MUST(header->hdr_len <= len);
	if (header->gso_type == VIRTIO_NET_HDR_GSO_NONE) {
		MUST(!header->gso_size && !header->hdr_len);
		return;
	}
	MUST(is_segments(fuzzed, header->gso_type));
	MUST(checksum && header->gso_size >= SEGMENT_MIN);
}

static int fuzz_send(struct netif *netif, const struct iovec *iov, unsigned count)
{
	struct fuzzed *fuzzed = netif->own;
	const struct virtio_net_hdr_mrg_rxbuf *header = iov[0].iov_base;
	struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = count};
	u64 len = 0;

	MUST(count > 1 && iov[0].iov_len == NETIF_HEADER && !header->num_buffers);
	for (unsigned i = 1; i < count; i++)
		len += iov[i].iov_len;
	must_be_fit(fuzzed, &header->hdr, len);
	return sendmsg(netif->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int fuzz_set_offloads(struct netif *netif, const struct netif_offloads *offloads)
{
	const struct fuzzed *fuzzed = netif->own;

	MUST(offloads->checksum || (!offloads->tso4 && !offloads->tso6));
	MUST(offloads->tso4 || offloads->tso6 || !offloads->ecn);
	return fuzzed->hung_up ? -EBADFD : 0;
}

static const struct netif_ops plain_ops = {.receive = fuzz_receive, .send = fuzz_send};
static const struct netif_ops offload_ops = {
	.receive = fuzz_receive,
	.send = fuzz_send,
	.set_offloads = fuzz_set_offloads,
};

/* The driver */

static u64 features(u8 choice)
{
	u64 wanted = 1ull << VIRTIO_NET_F_MAC | 1ull << VIRTIO_NET_F_STATUS;

	if (choice & 0x01)
		wanted |= 1ull << VIRTIO_NET_F_MRG_RXBUF;
	if (choice & 0x02)
		wanted |= 1ull << VIRTIO_NET_F_CSUM;
	if ((choice & 0x06) == 0x06)
		wanted |= 1ull << VIRTIO_NET_F_HOST_TSO4 | 1ull << VIRTIO_NET_F_HOST_ECN;
	if ((choice & 0x0a) == 0x0a)
		wanted |= 1ull << VIRTIO_NET_F_HOST_TSO6;
	if (choice & 0x10)
		wanted |= 1ull << VIRTIO_NET_F_GUEST_CSUM;
	if ((choice & 0x30) == 0x30)
		wanted |= 1ull << VIRTIO_NET_F_GUEST_TSO4;
	if ((choice & 0x50) == 0x50)
		wanted |= 1ull << VIRTIO_NET_F_GUEST_TSO6 | 1ull << VIRTIO_NET_F_GUEST_ECN;
	if (choice & 0x80)
		wanted |= 1ull << VIRTIO_NET_F_MTU;
	return wanted;
}

/* A byte for each of its fields, which are mostly as they should be. */
static struct virtio_net_hdr_mrg_rxbuf take_header(struct input *input)
{
	static const u8 types[] = {VIRTIO_NET_HDR_GSO_NONE, VIRTIO_NET_HDR_GSO_TCPV4,
				   VIRTIO_NET_HDR_GSO_TCPV6,
				   VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN};
	struct virtio_net_hdr_mrg_rxbuf header = {0};
	const u8 what = take(input, 1);

	if (!what)
		return header;
	header.hdr.flags = what % 8;
	header.hdr.gso_type = what & 0x80 ? take(input, 1) : types[what / 8 % 4];
	header.hdr.gso_size = take(input, 1) * (what & 0x40 ? 23 : 1);
	header.hdr.hdr_len = take(input, 1);
	header.hdr.csum_start = take(input, 1) * (what & 0x20 ? 257 : 1);
	header.hdr.csum_offset = take(input, 1) * (what & 0x20 ? 257 : 1);
	header.num_buffers = what;
	return header;
}

static void request(struct world *world, struct input *input, unsigned queue,
		    struct request *request)
{
	struct virtio_net_hdr_mrg_rxbuf *header;

	if (queue == TRANSMIT) {
		header = take_private(world, request, 0, sizeof(*header), false);
		*header = take_header(input);
	}
	take_buffers(request, input, queue == RECEIVE, WORLD_BUFFERS);
}

static void completed(struct world *world, unsigned queue, const struct request *request,
		      u32 written)
{
	(void)world;
	(void)request;
	/* A frame may go over several buffers, of which the last has the smallest part. */
	MUST(queue == RECEIVE ? written : !written);
}

/* What the host does */

static void put_frame(struct fuzzed *fuzzed, struct input *input)
{
	static u8 bytes[NETIF_FRAME_MAX + 64];
	const struct virtio_net_hdr_mrg_rxbuf header = take_header(input);
	const u8 len = take(input, 1);
	size_t total = NETIF_HEADER + len;

	if (len & 0x80)
		total = len & 0x40 ? sizeof(bytes) - len % 0x40 * 1024 : len % 0x40 * 50;
	memcpy(bytes, &header, sizeof(header));
	memset(bytes + sizeof(header), len, 64);
	send(fuzzed->outside, bytes, total, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void drain(int fd)
{
	u8 byte;

	while (recv(fd, &byte, sizeof(byte), MSG_DONTWAIT | MSG_TRUNC) >= 0)
		;
}

static void step(struct world *world, struct input *input, u8 what)
{
	struct fuzzed *fuzzed = fuzzed_of(world);

	switch (what) {
	case 0:
		fuzzed->hung_up = true;
		break;
	case 1: /* as when a child has died, which it does but once */
		if (!fuzzed->died)
			net_link_lost(&fuzzed->net);
		fuzzed->died = true;
		break;
	case 2:
	case 3:
		fuzzed->deaf = what & 1;
		break;
	default:
		put_frame(fuzzed, input);
		break;
	}
}

static void moment(struct world *world)
{
	struct fuzzed *fuzzed = fuzzed_of(world);

	if (!fuzzed->deaf)
		drain(fuzzed->outside);
}

/* Whoever hung up is back. */
static void at_rest(struct world *world)
{
	struct fuzzed *fuzzed = fuzzed_of(world);

	fuzzed->hung_up = fuzzed->deaf = fuzzed->died = false;
	fuzzed->net.lost = false;
	fuzzed->net.link_up = true;
	drain(fuzzed->outside);
	drain(fuzzed->netif.fd);
}

static void must_work(struct world *world)
{
	struct fuzzed *fuzzed = fuzzed_of(world);
	static const u8 frame[NETIF_HEADER + 60];
	const struct fake_buffer out = {DATA, sizeof(frame), false};
	const struct fake_buffer in = {DATA, sizeof(frame) + 1, true};

	MUST(world_ask(world, TRANSMIT, &out, 1) == 0);
	MUST(send(fuzzed->outside, frame, sizeof(frame), 0) == sizeof(frame));
	MUST(world_ask(world, RECEIVE, &in, 1) == sizeof(frame));
}

static const struct fuzzed_ops ops = {
	.queues = 2,
	.lines = 4, /* the violation, that the guest gave up, what the child died of, the link */
	.features = features,
	.request = request,
	.completed = completed,
	.step = step,
	.moment = moment,
	.at_rest = at_rest,
	.must_work = must_work,
};

static struct fuzzed *build(const struct netif_ops *netif_ops)
{
	struct fuzzed *fuzzed = calloc(1, sizeof(*fuzzed));
	struct problem why;
	int ends[2];

	MUST(fuzzed && !socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends));
	fuzzed->outside = ends[1];
	fuzzed->netif = (struct netif){.ops = netif_ops,
				       .name = "fuzz",
				       .fd = ends[0],
				       .child_fd = -1,
				       .mac = {2},
				       .mtu = ETH_DATA_LEN,
				       .own = fuzzed};
	world_init(&fuzzed->world, &ops);
	MUST(!net_init(&fuzzed->net, &fuzzed->world.pci, WORLD_SLOT, &fuzzed->world.machine,
		       fuzzed->world.memory, &fuzzed->netif, &why));
	fuzzed->world.virtio = &fuzzed->net.virtio;
	return fuzzed;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct fuzzed *fuzzed[2];
	struct input input = {data, size};
	const unsigned offloads = take(&input, 1) & 1;

	if (!fuzzed[offloads])
		fuzzed[offloads] = build(offloads ? &offload_ops : &plain_ops);
	world_run(&fuzzed[offloads]->world, input.data, input.left);
	return 0;
}
