/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio network device: frames between a guest's driver and whatever is
 * behind its interface (host/netif.h), which this file does not know.
 *
 * One queue receives, one transmits, each on its own thread, and neither copies: a
 * frame goes from the back end right into the guest's buffers, and from there right
 * to the back end. In front of each is a header that says what is still to be done
 * to it, a checksum or the cutting of a long segment. What the guest writes there
 * goes to the host's kernel, so it is looked at before.
 *
 * A frame for which there is no use is dropped and counted, as networks do.
 *
 * Tour 4.410
 */
#include "virtio/net.h"

#include "host/clock.h"
#include "host/iovec.h"
#include "host/log.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/if_ether.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NET_CLASS 0x020000 /* network controller: Ethernet */

#define FEATURE(name) (1ull << VIRTIO_NET_F_##name)

/* Of any interface, and of one that leaves work undone and has the other side do it. */
#define OWN_FEATURES (FEATURE(MAC) | FEATURE(STATUS) | FEATURE(MRG_RXBUF))
#define OFFLOADS                                                                                   \
	(FEATURE(CSUM) | FEATURE(HOST_TSO4) | FEATURE(HOST_TSO6) | FEATURE(HOST_ECN) |             \
	 FEATURE(GUEST_CSUM) | FEATURE(GUEST_TSO4) | FEATURE(GUEST_TSO6) | FEATURE(GUEST_ECN))

/* An 802.1Q tag makes a frame longer than the MTU says, and is allowed to. */
#define VLAN_TAG 4

/* Buffers of one readv(): the kernel takes no more (UIO_MAXIOV). */
#define VECTOR_MAX 1024

/* The shortest segment that TCP cuts: what the smallest MSS leaves beside all of its options. */
#define SEGMENT_MIN 8

enum { QUEUE_RECEIVE, QUEUE_TRANSMIT, QUEUES }; /* virtio: Network Device: Virtqueues */

typedef struct virtio_net_hdr_mrg_rxbuf header_t;

_Static_assert(sizeof(header_t) == NETIF_HEADER, "as the back ends know it");

/*
 * Receive buffers are taken before it is known how long the next frame is, so some
 * are held over for the one after it. What a frame needs beyond them goes to `rest`,
 * and waits there until the driver has brought more.
 */
struct net_receive {
	/* Held: in the order in which they were taken; [first, first + count) of both arrays. */
	struct held {
		u16 head;
		u64 len; /* up to 2^32 */
		u16 slots;
		u16 iov_count;
	} held[QUEUE_SIZE_MAX];
	unsigned first, count;
	struct iovec iov[QUEUE_SIZE_MAX * QUEUE_SIZE_MAX];
	unsigned iov_first, iov_count;
	u64 room;	/* bytes in all of them */
	unsigned slots; /* and descriptors of the ring that they keep busy */

	/* A frame that was read and not yet handed over; header included. 0: there is none. */
	u64 frame;
	u64 placed; /* bytes of it that are in the guest's buffers */
	header_t header;
	u8 rest[NETIF_FRAME_MAX];

	struct iovec vector[VECTOR_MAX];
	struct queue_used used[QUEUE_SIZE_MAX];
};

static struct net *net_of(struct virtio_device *device)
{
	return container_of(device, struct net, virtio);
}

static void count_frame(const struct net *net, struct net_count *count, u64 len)
{
	count->frames++;
	count->bytes += len;
	count->longer += len > ETH_HLEN + VLAN_TAG + (u64)net->netif->mtu;
}

static void count_dropped(const struct net *net, struct net_count *count, const char *why)
{
	count->dropped++;
	log_verbose("%s: frame dropped: %s", net->virtio.name, why);
}

/*
 * Nobody is behind the back end: its process has ended, or somebody has deleted the interface. Main
 * thread or the receive queue's, whoever finds out first.
 */
static void link_down(struct net *net)
{
	if (atomic_exchange(&net->lost, true))
		return;
	log_line("%s: %s is gone: the link is down", net->virtio.name, net->netif->name);
	virtio_config_begin(&net->virtio);
	net->link_up = false;
	virtio_config_changed(&net->virtio);
}

void net_link_lost(struct net *net)
{
	char how[256];

	netif_reap(net->netif, how, sizeof(how));
	log_line("%s: %s %s", net->virtio.name, net->netif->name, how);
	link_down(net);
}

/* Skip so many bytes of the buffers that begin at *iov. */
static unsigned iov_skip(struct iovec **iov, unsigned count, u64 bytes)
{
	while (count && bytes >= (*iov)->iov_len) {
		bytes -= (*iov)->iov_len;
		++*iov;
		count--;
	}
	if (count) {
		(*iov)->iov_base = (u8 *)(*iov)->iov_base + bytes;
		(*iov)->iov_len -= bytes;
	}
	return count;
}

/* Receiving */

static struct iovec *held_iov(struct net_receive *receive)
{
	return receive->iov + receive->iov_first;
}

/* What the device writes is told to whom it may concern (guest_ram_written()). */
static void tell_written(const struct net *net, u64 bytes)
{
	const struct memory *memory = net->virtio.memory;

	for (const struct iovec *iov = held_iov(net->receive); bytes; iov++) {
		const u64 len = MIN(bytes, iov->iov_len);

		guest_ram_written(memory, memory_gpa(memory, iov->iov_base), len);
		bytes -= len;
	}
}

/* It is not handed over, but what there is of it in the guest's RAM is there. */
static void forget_frame(struct net *net)
{
	struct net_receive *receive = net->receive;

	tell_written(net, MIN(receive->frame, receive->placed));
	receive->frame = 0;
}

static void forget_held(struct net *net)
{
	struct net_receive *receive = net->receive;

	forget_frame(net);
	receive->first = receive->count = 0;
	receive->iov_first = receive->iov_count = 0;
	receive->room = 0;
	receive->slots = 0;
}

/* Room at the end of both arrays for one chain more. */
static void make_room(struct net_receive *receive)
{
	if (receive->first + receive->count < ARRAY_SIZE(receive->held))
		return;
	memmove(receive->held, receive->held + receive->first,
		receive->count * sizeof(*receive->held));
	memmove(receive->iov, held_iov(receive), receive->iov_count * sizeof(*receive->iov));
	receive->first = 0;
	receive->iov_first = 0;
}

static void hold(struct net_receive *receive, const struct chain *chain)
{
	make_room(receive);
	receive->held[receive->first + receive->count++] = (struct held){
		.head = chain->head,
		.len = chain->writable_len,
		.slots = chain->slots,
		.iov_count = chain->writable,
	};
	memcpy(held_iov(receive) + receive->iov_count, chain->iov + chain->readable,
	       chain->writable * sizeof(*chain->iov));
	receive->iov_count += chain->writable;
	receive->room += chain->writable_len;
	receive->slots += chain->slots;
}

/* How much room the longest frame can need that may come now. */
static u64 room_wanted(const struct net *net)
{
	if (!virtio_has(&net->virtio, VIRTIO_NET_F_MRG_RXBUF))
		return 1;
	if (virtio_has(&net->virtio, VIRTIO_NET_F_GUEST_TSO4) ||
	    virtio_has(&net->virtio, VIRTIO_NET_F_GUEST_TSO6) || net->netif->exceeds_mtu)
		return NETIF_FRAME_MAX;
	return NETIF_HEADER + ETH_HLEN + VLAN_TAG + net->netif->mtu;
}

/*
 * virtio: Setting Up Receive Buffers: each holds a header at least. Without mergeable ones it must
 * hold all of a frame, but which frames those are is the driver's own affair.
 */
static bool has_room_for_header(struct net *net, const struct chain *chain)
{
	struct violation violation;

	if (chain->writable_len >= NETIF_HEADER)
		return true;
	violation_set(&violation,
		      "DEV-3: receive buffer at head %u: %" PRIu64
		      " bytes have no room for a header of %u",
		      chain->head, chain->writable_len, NETIF_HEADER);
	virtio_violation(&net->virtio, &violation);
	return false;
}

/* Take buffers until there is enough room, or there are no more. False: a rule was broken. */
static bool gather(struct net *net)
{
	struct net_receive *receive = net->receive;
	const u64 wanted = MAX(room_wanted(net), receive->frame);
	struct chain chain;

	/* No more can be out than the ring has places: receive->held has room for all. */
	while (receive->room < wanted) {
		int taken;

		if (!virtio_has(&net->virtio, VIRTIO_NET_F_MRG_RXBUF) && receive->count)
			break;
		taken = virtio_pop(&net->virtio, QUEUE_RECEIVE, &chain);
		if (!taken)
			break;
		if (taken < 0 || !has_room_for_header(net, &chain))
			return false;
		hold(receive, &chain);
	}
	return true;
}

/*
 * Where the next frame goes: the header is for us, then come the held buffers but for the place
 * that the header will take there, then what is ours. How many parts that makes, from *vector on.
 */
static unsigned lay_out(struct net_receive *receive, struct iovec **vector)
{
	const unsigned parts = MIN(receive->iov_count, VECTOR_MAX - 2);
	struct iovec *from = receive->vector + 1;
	unsigned left;

	memcpy(from, held_iov(receive), parts * sizeof(*from));
	receive->placed = 0;
	for (unsigned i = 0; i < parts; i++)
		receive->placed += from[i].iov_len;
	left = iov_skip(&from, parts, NETIF_HEADER);
	from[left] = (struct iovec){receive->rest, sizeof(receive->rest)};
	*--from = (struct iovec){&receive->header, NETIF_HEADER};
	*vector = from;
	return left + 2;
}

/* Has the driver accepted that segments of this kind come uncut? */
static bool takes_segments(const struct net *net, u8 gso_type)
{
	if (gso_type & VIRTIO_NET_HDR_GSO_ECN && !virtio_has(&net->virtio, VIRTIO_NET_F_GUEST_ECN))
		return false;
	switch (gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return virtio_has(&net->virtio, VIRTIO_NET_F_GUEST_TSO4);
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return virtio_has(&net->virtio, VIRTIO_NET_F_GUEST_TSO6);
	default:
		return false;
	}
}

/*
 * virtio: Processing of Incoming Packets: what the driver has not accepted it must not see. A frame
 * may have waited since another driver was there, who had. NULL, or why it cannot be handed over.
 */
static const char *unfit_for_guest(const struct net *net, header_t *header, u64 frame)
{
	struct virtio_net_hdr *h = &header->hdr;

	if (frame < NETIF_HEADER + ETH_HLEN)
		return "shorter than a MAC header";
	if (!virtio_has(&net->virtio, VIRTIO_NET_F_GUEST_CSUM)) {
		if (h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
			return "its checksum is not done, which the driver has not accepted";
		h->flags = 0;
	}
	h->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID;
	if (h->gso_type != VIRTIO_NET_HDR_GSO_NONE)
		return takes_segments(net, h->gso_type)
			       ? NULL
			       : "it is not cut up, which the driver has not accepted";
	if (virtio_has(&net->virtio, VIRTIO_NET_F_MTU) &&
	    frame > NETIF_HEADER + ETH_HLEN + VLAN_TAG + (u64)net->netif->mtu)
		return "longer than the MTU";
	return NULL;
}

/* 1: there is a frame, or was one. 0: none waits. -errno: there will never be one again. */
static int take_frame(struct net *net)
{
	struct net_receive *receive = net->receive;
	struct iovec *vector;
	const unsigned parts = lay_out(receive, &vector);
	const char *unfit;
	ssize_t length;

	memset(&receive->header, 0, sizeof(receive->header));
	length = net->netif->ops->receive(net->netif, vector, parts);
	if (length < 0)
		return length == -EAGAIN ? 0 : length;
	receive->frame = length;
	unfit = unfit_for_guest(net, &receive->header, length);
	if (unfit) {
		count_dropped(net, &net->received, unfit);
		forget_frame(net);
	}
	return 1;
}

/* How many of the held buffers the frame takes; what each is used for goes to receive->used. */
static unsigned share_out(struct net_receive *receive)
{
	u64 left = receive->frame;
	unsigned n = 0;

	do {
		const struct held *held = &receive->held[receive->first + n];

		receive->used[n].head = held->head;
		receive->used[n].written = MIN(left, held->len);
		left -= receive->used[n++].written;
	} while (left);
	return n;
}

static void release_held(struct net_receive *receive, unsigned count)
{
	for (; count; count--) {
		const struct held *held = &receive->held[receive->first++];

		receive->iov_first += held->iov_count;
		receive->iov_count -= held->iov_count;
		receive->room -= held->len;
		receive->slots -= held->slots;
		receive->count--;
	}
	if (!receive->count)
		receive->first = receive->iov_first = 0;
}

static void hand_over(struct net *net)
{
	struct net_receive *receive = net->receive;
	const u64 frame = receive->frame;
	const unsigned buffers = share_out(receive);

	receive->header.num_buffers = buffers;
	iov_scatter(held_iov(receive), receive->iov_count, 0, &receive->header, NETIF_HEADER);
	if (frame > receive->placed)
		iov_scatter(held_iov(receive), receive->iov_count, receive->placed, receive->rest,
			    frame - receive->placed);
	tell_written(net, frame);
	count_frame(net, &net->received, frame - NETIF_HEADER);
	queue_push_heads(virtio_queue(&net->virtio, QUEUE_RECEIVE), receive->used, buffers);
	release_held(receive, buffers);
	receive->frame = 0;
}

/*
 * Could the driver still bring what this frame needs? One that has accepted segments has to do with
 * frames of any length, and is given time; but not when it has no place left in the ring for as
 * much as it brought last.
 */
static bool may_get_room(struct net *net)
{
	const struct net_receive *receive = net->receive;
	const struct held *last = &receive->held[receive->first + receive->count - 1];

	return virtio_has(&net->virtio, VIRTIO_NET_F_MRG_RXBUF) &&
	       receive->frame <= room_wanted(net) &&
	       receive->slots + last->slots <= virtio_queue(&net->virtio, QUEUE_RECEIVE)->size;
}

/*
 * DEV-3: no interrupt while more packets wait. That is what going on until there are none comes to,
 * and a driver that takes its time is interrupted when its buffers are used up.
 *
 * Tour 4.411: Frames come
 */
static unsigned receive_frames(struct net *net)
{
	struct net_receive *receive = net->receive;

	while (!atomic_load(&net->lost)) {
		if (!gather(net))
			return WAIT_BROKEN;
		if (!receive->count)
			return WAIT_KICK;
		if (!receive->frame) {
			const int taken = take_frame(net);

			if (!taken)
				return WAIT_SOURCE;
			if (taken < 0)
				link_down(net);
			if (!receive->frame)
				continue;
		}
		if (receive->frame <= receive->room) {
			hand_over(net);
		} else if (may_get_room(net)) {
			return WAIT_KICK;
		} else {
			count_dropped(net, &net->received, "it does not fit the driver's buffers");
			forget_frame(net);
		}
	}
	return WAIT_SOURCE; /* of which there is none any more: until the queue is to rest */
}

/* Transmitting */

static void forget_segments(struct virtio_net_hdr *header)
{
	header->gso_type = VIRTIO_NET_HDR_GSO_NONE;
	header->gso_size = 0;
	header->hdr_len = 0;
}

/* What the driver has not accepted to use does not count, whatever it says. */
static void keep_accepted(const struct net *net, struct virtio_net_hdr *header)
{
	header->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM;
	if (!virtio_has(&net->virtio, VIRTIO_NET_F_CSUM))
		header->flags = 0;
	if (!header->flags)
		header->csum_start = header->csum_offset = 0;
	if (!virtio_has(&net->virtio, VIRTIO_NET_F_HOST_ECN))
		header->gso_type &= ~VIRTIO_NET_HDR_GSO_ECN;
	switch (header->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		if (!virtio_has(&net->virtio, VIRTIO_NET_F_HOST_TSO4))
			forget_segments(header);
		break;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		if (!virtio_has(&net->virtio, VIRTIO_NET_F_HOST_TSO6))
			forget_segments(header);
		break;
	default:
		forget_segments(header);
	}
}

/*
 * The host's kernel checks this as well; but it is not we who should show it what a guest can think
 * of. hdr_len is a hint (virtio: Packet Transmission), and must not lead past the end. NULL, or why
 * the frame cannot be sent.
 */
static const char *unfit_for_host(struct virtio_net_hdr *header, u64 len)
{
	if (len < ETH_HLEN)
		return "shorter than a MAC header";
	if (len > NETIF_FRAME_MAX - NETIF_HEADER)
		return "longer than any frame";
	if (header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM &&
	    (u64)header->csum_start + header->csum_offset + sizeof(u16) > len)
		return "its checksum would lie behind its end";
	if (header->gso_type == VIRTIO_NET_HDR_GSO_NONE)
		return NULL;
	if (!(header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
		return "to be cut up, but not to have checksums";
	if (header->gso_size < SEGMENT_MIN)
		return "to be cut into pieces too small";
	header->hdr_len = MIN(header->hdr_len, len);
	return NULL;
}

/* False: the queue is to rest, or there will never be room. */
static bool await_sendable(struct net *net)
{
	struct pollfd fds[] = {
		{.fd = virtio_stop_fd(&net->virtio, QUEUE_TRANSMIT), .events = POLLIN},
		{.fd = net->netif->fd, .events = POLLOUT},
	};

	/* What was sent already need not wait for it. */
	virtio_signal(&net->virtio, QUEUE_TRANSMIT);
	while (poll(fds, ARRAY_SIZE(fds), -1) < 0)
		;
	return !fds[0].revents && fds[1].revents & POLLOUT;
}

/* DEV-3: what cannot be written is lost, and that is all. */
static void send_frame(struct net *net, const struct iovec *vector, unsigned parts, u64 len)
{
	int err = -EPIPE;

	while (!atomic_load(&net->lost)) {
		err = net->netif->ops->send(net->netif, vector, parts);
		if (err != -EAGAIN || !await_sendable(net))
			break;
	}
	if (err)
		count_dropped(net, &net->sent, strerror(-err));
	else
		count_frame(net, &net->sent, len);
}

/*
 * The driver's header goes to the host's kernel, which believes it. So it is copied, cut down
 * to what was agreed upon, and looked at; then the frame goes out straight from the guest's
 * memory. False: a rule was broken.
 *
 * Tour 4.412: Frames go
 */
static bool transmit_chain(struct net *net, struct chain *chain)
{
	const u64 len = chain->readable_len - NETIF_HEADER;
	struct iovec vector[1 + QUEUE_SIZE_MAX];
	struct iovec *from = chain->iov;
	struct violation violation;
	const char *unfit;
	header_t header;
	unsigned parts;

	if (chain_read(chain, 0, &header, sizeof(header)) < sizeof(header)) {
		violation_set(&violation,
			      "DEV-3: frame at head %u: %" PRIu64 " bytes have no header of %u",
			      chain->head, chain->readable_len, NETIF_HEADER);
		virtio_violation(&net->virtio, &violation);
		return false;
	}
	header.num_buffers = 0;
	keep_accepted(net, &header.hdr);
	unfit = unfit_for_host(&header.hdr, len);
	if (unfit) {
		count_dropped(net, &net->sent, unfit);
		return true;
	}
	parts = iov_skip(&from, chain->readable, NETIF_HEADER);
	vector[0] = (struct iovec){&header, sizeof(header)};
	memcpy(vector + 1, from, parts * sizeof(*from));
	send_frame(net, vector, 1 + parts, len);
	return true;
}

/* All that waits: how many frames. -EPROTO: a rule was broken. */
static int drain(struct net *net)
{
	struct virtio_device *device = &net->virtio;
	struct chain chain;
	int taken, frames = 0;

	while ((taken = virtio_pop(device, QUEUE_TRANSMIT, &chain)) > 0) {
		if (!transmit_chain(net, &chain))
			return -EPROTO;
		queue_push(virtio_queue(device, QUEUE_TRANSMIT), &chain, 0);
		frames++;
	}
	return taken < 0 ? taken : frames;
}

/*
 * DEV-5. A driver that sends packet after packet, each sooner than the last is on its way, never
 * finds the queue drained and notifies once. But a host that is faster than its guest drains the
 * queue after each packet; and then each costs the guest an exit, which takes longer than all the
 * rest. So, when notifications follow upon each other closely, we leave them off after the queue is
 * drained, sleep for as long as a few packets should take, and look again: as long as several have
 * come each time, the driver is sending as it likes, and is not told to notify.
 *
 * It may also be one that waits for the answer to each packet before it sends the next. Then our
 * sleep is time that it loses: exactly one packet has come meanwhile. That ends the matter, and the
 * next time we are twice as slow to think of it; when it was worth it, twice as quick.
 *
 * Tour 4.413, 2 items: When to stop listening for the bell
 */
#define QUICK_SUCCESSION 1000000 /* ns between notifications: further apart, they cost nothing */
#define PAUSE_PACKETS	 4	 /* as many as are to come in one pause */
#define PAUSE_MIN	 20000	 /* ns: below it, sleeping takes longer than the sleep */
#define PAUSE_MAX	 2000000
#define PATIENCE_MIN	 2 /* notifications in quick succession before a pause is tried */
#define PATIENCE_START	 8
#define PATIENCE_MAX	 512

/* The queue is served because the driver has notified: how long to pause after it, in ns, or 0. */
static u64 pause_after_kick(struct net_batch *batch)
{
	const u64 at = clock_ns();
	unsigned gaps;

	if (!batch->streak || at - batch->woken > QUICK_SUCCESSION) {
		batch->streak = 0;
		batch->since = at;
	}
	batch->woken = at;
	gaps = batch->streak++;
	if (!gaps || batch->streak < batch->patience)
		return 0;
	return MIN(MAX((at - batch->since) / gaps * PAUSE_PACKETS, PAUSE_MIN), PAUSE_MAX);
}

static void end_pauses(struct net_batch *batch, bool worth_it)
{
	batch->streak = 0;
	batch->patience = worth_it ? MAX(batch->patience / 2, PATIENCE_MIN)
				   : MIN(batch->patience * 2, PATIENCE_MAX);
}

/* False: the queue is to rest. */
static bool pause_sending(struct net *net, u64 ns)
{
	struct pollfd stop = {
		.fd = virtio_stop_fd(&net->virtio, QUEUE_TRANSMIT),
		.events = POLLIN,
	};

	virtio_signal(&net->virtio, QUEUE_TRANSMIT);
	return ppoll(&stop, 1, &(struct timespec){.tv_nsec = ns}, NULL) <= 0;
}

static unsigned transmit_frames(struct net *net)
{
	const unsigned half = virtio_queue(&net->virtio, QUEUE_TRANSMIT)->size / 2;
	u64 pause = pause_after_kick(&net->batch);
	bool worth_it = false;
	int frames = drain(net);

	while (frames >= 0 && pause && pause_sending(net, pause)) {
		frames = drain(net);
		if (frames < 2) {
			end_pauses(&net->batch, worth_it);
			break;
		}
		worth_it = true;
		/* A ring that fills up stops the driver. */
		if ((unsigned)frames >= half)
			pause = MAX(pause / 2, PAUSE_MIN);
	}
	return frames < 0 ? WAIT_BROKEN : WAIT_KICK;
}

/* The device */

static unsigned net_serve(struct virtio_device *device, unsigned queue)
{
	struct net *net = net_of(device);

	return queue == QUEUE_RECEIVE ? receive_frames(net) : transmit_frames(net);
}

static int net_source(struct virtio_device *device, unsigned queue)
{
	const struct net *net = net_of(device);

	return queue == QUEUE_RECEIVE && !atomic_load(&net->lost) ? net->netif->fd : -1;
}

static u64 net_config_read(struct virtio_device *device, unsigned offset, unsigned len)
{
	const struct net *net = net_of(device);
	struct virtio_net_config config = {
		.status = net->link_up ? VIRTIO_NET_S_LINK_UP : 0,
		.mtu = net->netif->mtu,
	};
	u64 value = 0;

	memcpy(config.mac, net->netif->mac, ETH_ALEN);
	memcpy(&value, (const u8 *)&config + offset, len);
	return value;
}

static bool net_config_write(struct virtio_device *device, unsigned offset, unsigned len, u64 value)
{
	(void)device, (void)offset, (void)len, (void)value;
	return false;
}

static bool has_all(u64 features, u64 wanted)
{
	return (features & wanted) == wanted;
}

/* virtio: Feature bit requirements */
static bool net_features_ok(struct virtio_device *device, u64 features)
{
	const u64 from_guest = FEATURE(HOST_TSO4) | FEATURE(HOST_TSO6);
	const u64 to_guest = FEATURE(GUEST_TSO4) | FEATURE(GUEST_TSO6);

	(void)device;
	return (!(features & from_guest) || has_all(features, FEATURE(CSUM))) &&
	       (!(features & FEATURE(HOST_ECN)) || features & from_guest) &&
	       (!(features & to_guest) || has_all(features, FEATURE(GUEST_CSUM))) &&
	       (!(features & FEATURE(GUEST_ECN)) || features & to_guest);
}

static void start_count(struct net *net, struct net_count *count, unsigned queue)
{
	*count = (struct net_count){.kicks = virtio_kicks(&net->virtio, queue)};
}

static void net_driver_ok(struct virtio_device *device, u64 features)
{
	struct net *net = net_of(device);
	const struct netif_offloads offloads = {
		.checksum = features & FEATURE(GUEST_CSUM),
		.tso4 = features & FEATURE(GUEST_TSO4),
		.tso6 = features & FEATURE(GUEST_TSO6),
		.ecn = features & FEATURE(GUEST_ECN),
	};
	int err = 0;

	start_count(net, &net->received, QUEUE_RECEIVE);
	start_count(net, &net->sent, QUEUE_TRANSMIT);
	net->batch = (struct net_batch){.patience = PATIENCE_START};
	if (net->netif->ops->set_offloads)
		err = net->netif->ops->set_offloads(net->netif, &offloads);
	/* What is then handed over is judged frame by frame all the same. */
	if (err)
		log_verbose("%s: %s: cannot set offloads: %s", device->name, net->netif->name,
			    strerror(-err));
}

static void say_count(struct net *net, const struct net_count *count, unsigned queue,
		      const char *what)
{
	if (count->frames || count->dropped)
		log_verbose("%s: %s %" PRIu64 " frames (%" PRIu64 " longer than the MTU), %" PRIu64
			    " bytes, %" PRIu64 " dropped, %" PRIu64 " notifications",
			    net->virtio.name, what, count->frames, count->longer, count->bytes,
			    count->dropped, virtio_kicks(&net->virtio, queue) - count->kicks);
}

static void net_reset_queue(struct virtio_device *device, unsigned queue)
{
	if (queue == QUEUE_RECEIVE)
		forget_held(net_of(device));
}

static void net_reset(struct virtio_device *device)
{
	struct net *net = net_of(device);

	say_count(net, &net->sent, QUEUE_TRANSMIT, "sent");
	say_count(net, &net->received, QUEUE_RECEIVE, "received");
	start_count(net, &net->received, QUEUE_RECEIVE);
	start_count(net, &net->sent, QUEUE_TRANSMIT);
	forget_held(net);
}

static void net_destroy(struct virtio_device *device)
{
	free(net_of(device)->receive);
}

static const struct virtio_ops net_ops = {
	.name = "net",
	.id = VIRTIO_ID_NET,
	.class_code = NET_CLASS,
	.features = OWN_FEATURES,
	/* Up to and with the MTU: the link's speed comes behind it, which we do not offer. */
	.config_len = offsetof(struct virtio_net_config, speed),
	.serve = net_serve,
	.source = net_source,
	.config_read = net_config_read,
	.config_write = net_config_write,
	.features_ok = net_features_ok,
	.driver_ok = net_driver_ok,
	.reset_queue = net_reset_queue,
	.reset = net_reset,
	.destroy = net_destroy,
};

int net_init(struct net *net, struct pci_bus *pci, unsigned slot, struct machine *machine,
	     const struct memory *memory, struct netif *netif, struct problem *why)
{
	static const enum queue_direction directions[QUEUES] = {QUEUE_IN, QUEUE_OUT};
	int err;

	net->virtio.ops = &net_ops;
	net->virtio.offered = netif->ops->set_offloads ? OFFLOADS : 0;
	/* virtio: Device configuration layout: who has offered it must not hand over more. */
	if (!netif->exceeds_mtu)
		net->virtio.offered |= FEATURE(MTU);
	net->netif = netif;
	net->link_up = true;
	net->receive = calloc(1, sizeof(*net->receive));
	if (!net->receive)
		return problem(why, ENOMEM, "out of memory");
	log_verbose("%s: %s, MAC %02x:%02x:%02x:%02x:%02x:%02x", net->virtio.name, netif->name,
		    netif->mac[0], netif->mac[1], netif->mac[2], netif->mac[3], netif->mac[4],
		    netif->mac[5]);
	err = virtio_plug(&net->virtio, pci, slot, machine, memory, directions, QUEUES, why);
	if (err)
		free(net->receive);
	return err;
}
