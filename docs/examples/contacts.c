/*
 * A program of a page: a registry, two tenants, a value there and back, a rotation.
 *
 *   cc contacts.c $(pkg-config --cflags --libs dekhand) -o contacts
 *   KMS_STATE_DIR=$(mktemp -d) ./contacts
 */
#include <dekhand.h>
#include <dekhand_admin.h>
#include <stdio.h>
#include <string.h>

static int fail(const char *doing, const struct dekhand_error *error)
{
    fprintf(stderr, "%s: %s: %s\n  what to do: %s\n", doing, error->name, error->text, error->todo);
    return 1;
}

int main(void)
{
    struct dekhand_error error;
    struct dekhand *d;

    /* Once per installation; safe to repeat. Keep master.key and the registry safe. */
    if (dekhand_init(NULL, NULL, &error) != DEKHAND_OK) {
        return fail("init", &error);
    }
    if (dekhand_open(NULL, &d, &error) != DEKHAND_OK) {
        return fail("open", &error);
    }

    /* The context says where the value belongs; the same one is needed to read it. */
    struct dekhand_pair context[] = {{"field", "contacts.phone"}};
    const char *phone = "+44 20 7946 0018";
    char stored[256], back[64];
    struct dekhand_item item = {
        .tenant = "acme",
        .context = context,
        .context_count = 1,
        .in = phone,
        .in_size = strlen(phone),
        .out = stored,
        .capacity = sizeof stored,
    };
    if (dekhand_encrypt(d, &item, &error) != DEKHAND_OK) {
        return fail("encrypt", &error);
    }
    printf("stored:  %.*s\n", (int)item.size, stored);

    /* A new key version: what is stored still reads. */
    struct dekhand_rotate_args rotate = {
        .size = sizeof rotate, .which = DEKHAND_ROTATE_TENANT, .tenant = "acme"};
    if (dekhand_rotate(d, &rotate, NULL, NULL, &error) != DEKHAND_OK) {
        return fail("rotate", &error);
    }

    struct dekhand_item read = {
        .tenant = "acme",
        .context = context,
        .context_count = 1,
        .in = stored,
        .in_size = item.size,
        .out = back,
        .capacity = sizeof back,
    };
    if (dekhand_decrypt(d, &read, &error) != DEKHAND_OK) {
        return fail("decrypt", &error);
    }
    printf("read:    %.*s\n", (int)read.size, back);

    /* Another tenant gets nothing. */
    read.tenant = "globex";
    if (dekhand_decrypt(d, &read, NULL) == DEKHAND_OK) {
        fprintf(stderr, "globex read acme's value\n");
        return 1;
    }
    printf("globex:  refused\n");
    return dekhand_close(d, &error) == DEKHAND_OK ? 0 : fail("close", &error);
}
