/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every cipher and digest that libcrypto has, through its own interface: those too that
 * openssl's command line will not have, because their result comes with a seal. Compiled
 * and run by work-test, in a guest and out here; no part of lguest.
 */
#include <openssl/evp.h>
#include <stdio.h>

#define SIZE	   20000
#define MOST_EXTRA 64
#define SEAL	   16

static unsigned char input[SIZE], output[SIZE + 2 * MOST_EXTRA];

static void print_sum(const char *name, const unsigned char *bytes, size_t size)
{
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned int length = 0;

	EVP_Digest(bytes, size, sum, &length, EVP_sha256(), NULL);
	printf("%s %zu ", name, size);
	for (unsigned int i = 0; i < length; i++)
		printf("%02x", sum[i]);
	printf("\n");
}

/* Some want a whole number of blocks, or have their own idea of a message: they say no here. */
static void try_cipher(EVP_CIPHER *cipher, void *nothing)
{
	static const unsigned char key[EVP_MAX_KEY_LENGTH] = "a key that many hands have held";
	static const unsigned char iv[EVP_MAX_IV_LENGTH] = "only used once";
	const char *name = EVP_CIPHER_get0_name(cipher);
	unsigned char seal[SEAL];
	EVP_CIPHER_CTX *context;
	int length = 0, rest = 0;

	(void)nothing;
	/* Draws its initial value by lot, and so has another result each time. */
	if (EVP_CIPHER_is_a(cipher, "DES3-WRAP"))
		return;
	context = EVP_CIPHER_CTX_new();
	if (context && EVP_EncryptInit_ex2(context, cipher, key, iv, NULL) == 1 &&
	    EVP_EncryptUpdate(context, output, &length, input, SIZE) == 1 &&
	    EVP_EncryptFinal_ex(context, output + length, &rest) == 1)
		print_sum(name, output, length + rest);
	else
		printf("%s none\n", name);
	if (context && (EVP_CIPHER_get_flags(cipher) & EVP_CIPH_FLAG_AEAD_CIPHER) &&
	    EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, SEAL, seal) == 1)
		print_sum(name, seal, SEAL);
	EVP_CIPHER_CTX_free(context);
}

static void try_digest(EVP_MD *digest, void *nothing)
{
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned int length = 0;

	(void)nothing;
	if (EVP_Digest(input, SIZE, sum, &length, digest, NULL) == 1)
		print_sum(EVP_MD_get0_name(digest), sum, length);
	else
		printf("%s none\n", EVP_MD_get0_name(digest));
}

int main(void)
{
	for (int i = 0; i < SIZE; i++)
		input[i] = i * 31 >> 3;
	EVP_CIPHER_do_all_provided(NULL, try_cipher, NULL);
	EVP_MD_do_all_provided(NULL, try_digest, NULL);
	return 0;
}
