"""Networks: encoder, decoder and critic. One file each, named like its yaml."""
