/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the vCPUs of one machine have to settle among themselves.
 *
 * Each has a thread, a TLB and a code cache, and looks at nobody else's: that is why they need
 * no locks while they run. But a page that one of them translates from must not be written by
 * another unnoticed. So each page of RAM has a word that says who may write it through the TLB,
 * and who has code of it; never both. Whoever wants to write a page with code does it in C, and
 * tells those who have the code (cache_written()). Whoever wants to translate from a page takes
 * the tags away from those who may write it, and waits until none of them can be between its
 * look at the tag and its store.
 *
 * Waiting is done by a lock. The thread of a vCPU holds `running` whenever it does not sleep or
 * wait, and lets go of it between two instructions if somebody asks. Who has got it may touch
 * that vCPU's TLB. Nobody waits for another's while he holds his own, and who wants all of them
 * takes them in order, so they cannot wait for each other in a circle.
 *
 * Tour 6.460: What vCPUs settle among themselves
 */
#include "engine/soft/translate.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

/* vCPUs that a page's word tells apart; the others share a bit with one of these. */
#define PAGE_VCPUS 32

/* ------------------------------------------------------------------ getting at another vCPU */

/*
 * Get hold of another: it runs nothing until vcpu_release(). The caller must not hold his own.
 *
 * Tour 6.461, 2 items: Getting hold of another
 */
static void vcpu_hold(struct vcpu *vcpu, struct vcpu *other)
{
	vectors_save(vcpu);
	atomic_fetch_add(&other->visitors, 1);
	if (!pthread_mutex_trylock(&other->running))
		return;
	vcpu_kick(other, POLL_VISIT);
	pthread_mutex_lock(&other->running);
}

static void vcpu_release(struct vcpu *vcpu, struct vcpu *other)
{
	vectors_save(vcpu);
	pthread_mutex_unlock(&other->running);
	if (atomic_fetch_sub(&other->visitors, 1) == 1)
		syscall(SYS_futex, &other->visitors, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void vcpu_rest(struct vcpu *vcpu)
{
	vectors_save(vcpu);
	pthread_mutex_unlock(&vcpu->running);
}

void vcpu_resume(struct vcpu *vcpu)
{
	vectors_save(vcpu);
	pthread_mutex_lock(&vcpu->running);
}

void vcpu_give_way(struct vcpu *vcpu)
{
	u32 visitors;

	vcpu_rest(vcpu);
	/* Who unlocks a mutex is often the next to get it. Not here: visitors first. */
	while ((visitors = atomic_load(&vcpu->visitors)))
		syscall(SYS_futex, &vcpu->visitors, FUTEX_WAIT_PRIVATE, visitors, NULL, NULL, 0);
	vcpu_resume(vcpu);
}

void vcpu_stop_others(struct vcpu *vcpu)
{
	struct soft *soft = vcpu->soft;

	vcpu_rest(vcpu);
	for (unsigned i = 0; i < soft->vcpus_added; i++) {
		if (i == vcpu->index)
			vcpu_resume(vcpu);
		else
			vcpu_hold(vcpu, soft->vcpus[i]);
	}
	vcpu->alone = true;
}

void vcpu_let_others_run(struct vcpu *vcpu)
{
	struct soft *soft = vcpu->soft;

	if (!vcpu->alone)
		return;
	for (unsigned i = 0; i < soft->vcpus_added; i++)
		if (i != vcpu->index)
			vcpu_release(vcpu, soft->vcpus[i]);
	vcpu->alone = false;
}

/* ------------------------------------------------------------------ pages */

static u64 writer_bit(const struct vcpu *vcpu)
{
	return 1ull << vcpu->index % PAGE_VCPUS;
}

static u64 coder_bit(const struct vcpu *vcpu)
{
	return writer_bit(vcpu) << PAGE_VCPUS;
}

static _Atomic u64 *page_word(const struct soft *soft, u64 gpa)
{
	const struct ram *ram = ram_piece(soft, gpa);

	return ram ? &ram->pages[(gpa - ram->gpa) / PAGE_SIZE] : NULL;
}

bool page_allow_writing(struct vcpu *vcpu, u64 gpa)
{
	_Atomic u64 *word = page_word(vcpu->soft, gpa);
	u64 old = atomic_load(word), bit = writer_bit(vcpu);

	do {
		if (old >> PAGE_VCPUS)
			return false;
	} while (!(old & bit) && !atomic_compare_exchange_weak(word, &old, old | bit));
	return true;
}

/*
 * A vCPU is about to translate from this page: nobody may write to it any more without
 * telling. Those who could are stopped for a moment, one by one, and their tags taken away. It
 * is rare, and it may take its time.
 *
 * Tour 6.462: Writing, or translating; not both
 */
void page_has_code_now(struct vcpu *vcpu, u64 gpa)
{
	struct soft *soft = vcpu->soft;
	_Atomic u64 *word = page_word(soft, gpa);
	u64 writers = (u32)atomic_fetch_or(word, coder_bit(vcpu));
	bool rested = false;

	if (!writers)
		return;
	if (writers & writer_bit(vcpu))
		mmu_forget_writable(vcpu, gpa);
	for (unsigned i = 0; i < soft->vcpus_added; i++) {
		struct vcpu *other = soft->vcpus[i];

		if (other == vcpu || !(writers & writer_bit(other)))
			continue;
		if (!rested)
			vcpu_rest(vcpu);
		rested = true;
		vcpu_hold(vcpu, other);
		mmu_forget_writable(other, gpa);
		vcpu_release(vcpu, other);
		vcpu->stats.rights_revoked++;
	}
	if (rested)
		vcpu_resume(vcpu);
	/* Now that there is code nobody was given it meanwhile. */
	atomic_fetch_and(word, ~writers);
}

/* With more vCPUs than bits somebody else may mean the same: then it has code for ever. */
void page_has_no_code(struct vcpu *vcpu, u64 gpa)
{
	if (vcpu->soft->vcpu_count <= PAGE_VCPUS)
		atomic_fetch_and(page_word(vcpu->soft, gpa), ~coder_bit(vcpu));
}

/* ------------------------------------------------------------------ who wrote what */

/* It must drop what it has from these bytes, before it goes on to another block. */
static void report_write(struct vcpu *to, u64 gpa, u64 length)
{
	struct written *written = &to->written;
	struct range *last;

	pthread_mutex_lock(&written->lock);
	last = written->count ? &written->range[written->count - 1] : NULL;
	if (last && align_down(last->gpa, PAGE_SIZE) == align_down(gpa, PAGE_SIZE))
		*last = (struct range){align_down(gpa, PAGE_SIZE), PAGE_SIZE};
	else if (written->count < ARRAY_SIZE(written->range))
		written->range[written->count++] = (struct range){gpa, length};
	else
		written->overflow = true;
	pthread_mutex_unlock(&written->lock);
	vcpu_kick(to, POLL_CODE);
}

/*
 * These bytes, of one page, were written: who else has code of them? The write comes before the
 * look at the page's word, and translators mark the page before they look at its bytes: one of
 * the two is seen by the other.
 */
static void report_page(struct soft *soft, struct vcpu *writer, u64 gpa, u64 length)
{
	u64 word = atomic_fetch_or(page_word(soft, gpa), 0);

	for (unsigned i = 0; word >> PAGE_VCPUS && i < soft->vcpus_added; i++) {
		struct vcpu *vcpu = soft->vcpus[i];

		if (vcpu == writer || !(word & coder_bit(vcpu)) ||
		    !cache_may_have(vcpu, gpa, length))
			continue;
		if (writer)
			vectors_save(writer);
		report_write(vcpu, gpa, length);
	}
}

static void report(struct soft *soft, struct vcpu *writer, u64 gpa, u64 length)
{
	while (length) {
		u64 piece = MIN(length, PAGE_SIZE - gpa % PAGE_SIZE);

		report_page(soft, writer, gpa, piece);
		gpa += piece;
		length -= piece;
	}
}

bool cache_written(struct vcpu *vcpu, u64 gpa, u64 length)
{
	report(vcpu->soft, vcpu, gpa, length);
	return cache_invalidate(vcpu, gpa, length);
}

/* A device's thread, mostly. */
void cache_device_wrote(void *soft, u64 gpa, u64 length)
{
	report(soft, NULL, gpa, length);
}

void cache_drop_written(struct vcpu *vcpu)
{
	struct written *written = &vcpu->written;
	struct range range[ARRAY_SIZE(written->range)];
	unsigned count;
	bool all;

	vectors_save(vcpu);
	pthread_mutex_lock(&written->lock);
	count = written->count;
	all = written->overflow;
	for (unsigned i = 0; i < count; i++)
		range[i] = written->range[i];
	written->count = 0;
	written->overflow = false;
	pthread_mutex_unlock(&written->lock);
	if (all)
		cache_flush(vcpu);
	for (unsigned i = 0; !all && i < count; i++)
		cache_invalidate(vcpu, range[i].gpa, range[i].length);
	vcpu->stats.foreign_code_writes += count;
}
